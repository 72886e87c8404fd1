"""One queue that takes nothing holds up no other; a broker that is gone is told from it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import kombu
import pytest
import redis
from prometheus_client import REGISTRY

from shared.messaging import publisher as publishers
from shared.messaging import relay as relays
from shared.messaging.broker import durable_queue
from shared.messaging.relay import keep_running
from shared.messaging.relay_bell import RelayBell
from tests.support.engines import RabbitServer
from tests.support.event_service.brokers import Broker
from tests.support.event_service.world import Herald, a_usage, eventually

on_rabbitmq = pytest.mark.parametrize(
    "broker", [pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)], indirect=True
)


@pytest.fixture
def tiers(broker: Broker) -> Iterator[list[str]]:
    """Three tiers of this test's own, each with a queue that nobody works off."""
    tiers = [f"tier{uuid4().hex[:12]}" for _ in range(3)]
    with kombu.Connection(broker.url) as connection:
        queues = [durable_queue(one, [stream_of(one)], broker.url) for one in tiers]
        for queue in queues:
            queue(connection.default_channel).declare()
        yield tiers
    with kombu.Connection(broker.url) as connection:
        for queue in queues:
            queue(connection.default_channel).delete()


@pytest.fixture
def ready_file(tmp_path: Path) -> Path:
    return tmp_path / "ready"


@pytest.fixture
def relaying(
    herald: Herald, ready_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[threading.Thread]:
    """A relay in its loop, whose batches are small and which does not wait long for a confirm."""
    monkeypatch.setattr(relays, "BATCH_SIZE", 3)
    monkeypatch.setattr(publishers, "_CONFIRM_SECONDS", 2)
    relay, bell, stop = herald.relay(), RelayBell(herald.url), threading.Event()
    arguments = (relay, bell, stop, "herald", ready_file)
    thread = threading.Thread(target=keep_running, args=arguments)
    thread.start()
    yield thread
    stop.set()
    bell.end()
    thread.join()
    bell.close()


def stream_of(tier: str) -> str:
    return f"usage.recorded.{tier}"


def publish(herald: Herald, tier: str, count: int) -> None:
    herald.publish([a_usage() for _ in range(count)], tier=tier)


def waiting(herald: Herald, tier: str) -> int:
    sql = "select count(*) as n from outbox where stream = :stream"
    return int(herald.rows(sql, stream=stream_of(tier))[0].n)


def failures(reason: str) -> float:
    labels = {"service": "herald", "reason": reason}
    return REGISTRY.get_sample_value("companion_relay_failures_total", labels) or 0


def numbers_in(broker: Broker, queue: str) -> list[list[int]]:
    """The numbers of each message's events, in the order of the queue."""
    numbers = []
    with kombu.Connection(broker.url) as connection:
        channel: Any = connection.default_channel
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            _, named, _ = json.loads(message.body)
            numbers.append([one["producerseq"] for one in named["batch"]["events"]])
    return numbers


@contextlib.contextmanager
def stuck(broker: Broker, queue: str, rabbitmq: RabbitServer | None) -> Iterator[None]:
    """For the length of a block the broker can't put anything into one of its queues, and does not
    say that it won't."""
    if rabbitmq is not None:
        with rabbitmq.stalled(queue):
            yield
        return
    with redis.Redis.from_url(broker.url) as client:
        client.set(queue, "no list")
        try:
            yield
        finally:
            client.delete(queue)


@pytest.fixture
def rabbitmq(broker: Broker, request: pytest.FixtureRequest) -> RabbitServer | None:
    if not broker.is_rabbitmq:
        return None
    server: RabbitServer = request.getfixturevalue("rabbitmq_server")
    return server


def test_a_queue_that_confirms_nothing_holds_up_no_other_stream_and_keeps_its_order(
    herald: Herald,
    broker: Broker,
    rabbitmq: RabbitServer | None,
    tiers: list[str],
    ready_file: Path,
    relaying: threading.Thread,
) -> None:
    one, *others = tiers
    in_vain, alone = failures("broker"), failures("not_confirmed")
    with stuck(broker, one, rabbitmq):
        # It is the oldest, and there is more of it than goes into one batch.
        publish(herald, one, 7)
        eventually(lambda: failures("broker") > in_vain, "it is tried in vain")
        for _ in range(3):
            for other in others:
                publish(herald, other, 4)
            eventually(lambda: not any(waiting(herald, one) for one in others), "others go")
        eventually(lambda: failures("not_confirmed") > alone, "it is known to be alone")
        assert waiting(herald, one) == 7
        ready_file.unlink(missing_ok=True)
        publish(herald, others[0], 1)
        eventually(ready_file.exists, "the relay is ready all the same")
    eventually(lambda: herald.waiting() == 0, "all of it is sent")
    assert relaying.is_alive()
    sent = numbers_in(broker, one)
    # What was not confirmed may have arrived nevertheless, and came again.
    assert sent == sorted(sent)
    assert sorted({number for batch in sent for number in batch}) == list(range(1, 8))
    for other in others:
        arrived = [number for batch in numbers_in(broker, other) for number in batch]
        assert arrived == list(range(1, len(arrived) + 1))
        assert len(arrived) == (13 if other == others[0] else 12)


@on_rabbitmq
def test_a_full_queue_that_refuses_is_left_alone_and_goes_on_in_order(
    herald: Herald, broker: Broker, relaying: threading.Thread, ready_file: Path
) -> None:
    full, other = f"full{uuid4().hex[:12]}", f"other{uuid4().hex[:12]}"
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    with kombu.Connection(broker.url) as connection:
        channel: Any = connection.default_channel
        for tier, given in ((full, arguments), (other, {})):
            channel.queue_declare(tier, durable=True, auto_delete=False, arguments=given)
            channel.queue_bind(tier, "companion.events", stream_of(tier))
        try:
            publish(herald, full, 8)
            before = failures("refused")
            eventually(lambda: failures("refused") > before, "it is refused")
            publish(herald, other, 4)
            eventually(lambda: waiting(herald, other) == 0, "the other goes")
            ready_file.unlink(missing_ok=True)
            eventually(ready_file.exists, "the relay is ready all the same")
            arrived: list[int] = []

            def all_there() -> bool:
                arrived.extend(number for one in numbers_in(broker, full) for number in one)
                return waiting(herald, full) == 0 and len(arrived) == 8

            eventually(all_there, "it goes whenever there is room", seconds=60)
            assert arrived == list(range(1, 9))
        finally:
            for tier in (full, other):
                channel.queue_delete(tier)
    assert relaying.is_alive()


def test_a_broker_that_is_gone_makes_the_relay_unready_and_all_goes_on_once_it_is_back(
    herald: Herald,
    broker: Broker,
    tiers: list[str],
    ready_file: Path,
    relaying: threading.Thread,
) -> None:
    for tier in tiers:
        publish(herald, tier, 2)
    eventually(lambda: herald.waiting() == 0, "all of it is sent")
    before = failures("broker")
    # Not killed: a RabbitMQ that is may forget who leads a queue that it has had for a second only.
    broker.child.stop()
    try:
        for tier in tiers:
            publish(herald, tier, 2)
        eventually(lambda: failures("broker") > before, "the relay notices")
        ready_file.unlink(missing_ok=True)
        # Each stream in turn, and the first of them again.
        eventually(lambda: failures("broker") > before + 4, "it tries on", seconds=90)
        assert not ready_file.exists()
        assert herald.waiting() == 6
    finally:
        broker.start_again()
    eventually(lambda: herald.waiting() == 0, "all of it is sent")
    eventually(ready_file.exists, "the relay is ready")
    assert relaying.is_alive()
    for tier in tiers:
        assert [number for one in numbers_in(broker, tier) for number in one] == [1, 2, 3, 4]
