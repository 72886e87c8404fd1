"""The same suite with the deployment's broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.companion.tour import Tour
from tests.support.engines import RabbitServer
from tests.support.suite import running_suite

pytestmark = [pytest.mark.e2e, pytest.mark.rabbitmq]


@pytest.mark.slow
def test_the_tour_works_over_rabbitmq(tmp_path: Path, rabbitmq_server: RabbitServer | None) -> None:
    if rabbitmq_server is None:
        pytest.skip("this machine has no RabbitMQ")
    told: list[str] = []
    with (
        rabbitmq_server.fresh_virtual_host() as broker_url,
        running_suite(tmp_path, BROKER_URL=broker_url) as suite,
    ):
        Tour(suite.url, told.append).walk()
        assert not [row for row in suite.running.processes() if not row.ready]
    assert any("2 requests" in line for line in told)
