"""A RabbitMQ whose disk is full takes nothing, and nobody notices but the outbox."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from shared.messaging import publisher
from shared.messaging.publisher import NotSent
from shared.messaging.relay import Relay
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


@pytest.mark.parametrize(
    "broker", [pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)], indirect=True
)
def test_an_alarm_costs_the_broker_no_connection_more_however_long_it_lasts(
    herald: Herald,
    workers: Scribe,
    broker: Broker,
    rabbitmq_server: RabbitServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reads nothing from who publishes, so it would not notice who hangs up. One had sent
    before the alarm, the other connects during it."""
    before, during = herald.relay(), herald.relay()
    herald.publish([a_usage()])
    herald.drain(before)
    monkeypatch.setattr(publisher, "_CONFIRM_SECONDS", 0.5)
    with rabbitmq_server.disk_alarm():
        herald.publish([a_usage()])
        fail_to_send(before, during)
        connections = rabbitmq_server.connections()
        for _ in range(3):
            fail_to_send(before, during)
        assert rabbitmq_server.connections() == connections
    monkeypatch.undo()
    for relay in (during, before):
        herald.publish([a_usage()])
        herald.drain(relay)
    assert rabbitmq_server.connections() == connections
    assert_each_once(herald, workers)


@pytest.mark.parametrize(
    "broker", [pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)], indirect=True
)
def test_what_does_not_fit_on_the_way_is_not_sent_into_an_alarm_again_and_again(
    herald: Herald,
    broker: Broker,
    rabbitmq_server: RabbitServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = {"batch_id": str(uuid4()), "noise": [secrets.token_hex(1 << 20) for _ in range(12)]}
    one = herald.publisher()
    monkeypatch.setattr(publisher, "_CONFIRM_SECONDS", 1)
    with rabbitmq_server.disk_alarm():
        connections = rabbitmq_server.connections()
        for _ in range(3):
            with pytest.raises(NotSent):
                one.send("nothing.listens.free", "nothing.listens", large, routed=False)
        assert rabbitmq_server.connections() == connections + 1
    monkeypatch.undo()
    one.send("nothing.listens.free", "nothing.listens", large, routed=False)
    assert rabbitmq_server.connections() == connections + 1


def fail_to_send(*relays: Relay) -> None:
    for relay in relays:
        with pytest.raises(NotSent):
            relay.run_once()


def seconds_to_publish(herald: Herald) -> float:
    """How long ten events take whoever tells of them."""
    began = time.monotonic()
    herald.publish([a_usage(model=f"plain-{uuid4()}") for _ in range(10)])
    return time.monotonic() - began
