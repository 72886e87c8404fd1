"""What `companion doctor` looks for at a broker."""

from importlib import import_module

import pytest

from deploy.companion.programs import SERVICES
from deploy.companion.queue_names import all_queues


@pytest.mark.parametrize("url", ["amqp://broker", "redis://broker"])
def test_it_knows_every_queue_that_a_service_declares_and_its_limits(url: str) -> None:
    declared = {
        queue.name: queue.queue_arguments
        for service in SERVICES
        for queue in import_module(f"services.{service}.tasks").listen.queues(url)
    }
    assert {queue.name: queue.queue_arguments for queue in all_queues(url)} == declared
