"""A RabbitMQ whose disk is full takes nothing, and nobody notices but the outbox."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from shared.messaging.publisher import NotSent
from tests.support.engines import RabbitServer
from tests.support.event_service.brokers import Broker
from tests.support.event_service.world import Herald, Scribe, a_usage, assert_each_once


@pytest.mark.parametrize(
    "broker", [pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)], indirect=True
)
def test_a_disk_alarm_holds_up_the_relay_alone_and_loses_and_doubles_nothing(
    herald: Herald, workers: Scribe, broker: Broker, rabbitmq_server: RabbitServer
) -> None:
    herald.publish([a_usage() for _ in range(50)])
    herald.drain()
    relay = herald.relay()
    usual = seconds_to_publish(herald)
    herald.drain(relay)
    with ThreadPoolExecutor(1) as another_thread:
        with rabbitmq_server.disk_alarm():
            herald.publish([a_usage() for _ in range(10)])
            relaying = another_thread.submit(herald.drain, relay)
            # Whoever writes to the outbox does not wait for the broker.
            under_alarm = max(seconds_to_publish(herald) for _ in range(5))
            assert under_alarm < max(1.0, usual * 10)
            assert not relaying.done()
            assert herald.waiting() == 60
        relaying.result(60)
    herald.drain(relay)
    assert_each_once(herald, workers)
    assert len(set(herald.sent())) == 120
    assert herald.sequences("usage.recorded.free") == list(range(1, 121))


@pytest.mark.parametrize(
    "broker", [pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)], indirect=True
)
def test_under_an_alarm_an_attempt_ends_soon(
    herald: Herald, workers: Scribe, broker: Broker, rabbitmq_server: RabbitServer
) -> None:
    """A relay that is to end must not wait for a broker that reads nothing any more."""
    relay = herald.relay()
    herald.publish([a_usage()])
    herald.drain(relay)
    with ThreadPoolExecutor(1) as another_thread:
        with rabbitmq_server.disk_alarm():
            herald.publish([a_usage()])
            with pytest.raises(NotSent):
                another_thread.submit(relay.run_once).result(20)
        herald.drain(relay)
    assert_each_once(herald, workers)


def seconds_to_publish(herald: Herald) -> float:
    """How long ten events take whoever tells of them."""
    began = time.monotonic()
    herald.publish([a_usage(model=f"plain-{uuid4()}") for _ in range(10)])
    return time.monotonic() - began
