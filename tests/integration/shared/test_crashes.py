"""Workers, brokers and databases that die in the middle: still lost 0, double 0."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from shared.messaging.queues import declare_queues
from tests.integration.shared.conftest import SHORT_WAITS
from tests.support.engines import PostgresServer, running_postgres
from tests.support.event_service.brokers import Broker
from tests.support.event_service.storage import create_tables
from tests.support.event_service.tasks import listen_as
from tests.support.event_service.world import (
    Herald,
    Process,
    Scribe,
    a_usage,
    assert_each_once,
    eventually,
)

# Nobody else has a worker for this tier's queue.
TIER = "pro"
StartWorkers = Callable[..., list[Process]]


@pytest.fixture
def start_workers(scribe: Scribe) -> Iterator[StartWorkers]:
    """Starts workers that end with the test."""
    started: list[Process] = []

    def start(
        count: int = 1, *, waits: Mapping[str, float] = SHORT_WAITS, **environment: str
    ) -> list[Process]:
        new = [
            scribe.start_worker(TIER, environment=environment, transport_options=waits)
            for _ in range(count)
        ]
        started.extend(new)
        for worker in new:
            worker.wait_until_ready()
        return new

    yield start
    for worker in started:
        worker.kill()


def publish(herald: Herald, count: int, *, model: str = "plain") -> list[UUID]:
    ids = herald.publish([a_usage(model=model) for _ in range(count)], tier=TIER)
    herald.drain()
    return ids


@pytest.mark.parametrize("moment", ["before-commit", "after-commit"])
def test_a_worker_killed_at_work_loses_and_doubles_nothing(
    herald: Herald, scribe: Scribe, start_workers: StartWorkers, moment: str
) -> None:
    workers = start_workers(2)
    ids = publish(herald, 3, model=f"worker-dies-{moment}:{uuid4()}")
    publish(herald, 2)
    # The killed worker never acknowledged, so its message comes to the other one.
    eventually(lambda: _counts(scribe, ids) == [2, 2, 2], "the message comes again")
    assert [worker.has_ended() for worker in workers].count(True) == 1
    assert_each_once(herald, scribe)


def test_a_batch_that_kills_its_process_is_put_aside_in_the_end(
    herald: Herald, scribe: Scribe, start_workers: StartWorkers
) -> None:
    # A death is noticed within five seconds; until then the message must not come again.
    start_workers(MOST_ATTEMPTS="1", waits={})
    deadly = publish(herald, 2, model="killer")
    publish(herald, 5)

    def put_aside() -> list[str]:
        # Beside what a test before left, perhaps.
        ids = {str(id_) for id_ in deadly}
        dead = scribe.dead()
        return [
            one.reason
            for one in dead
            if {event["id"] for event in one.body.get("events", ())} == ids
        ]

    eventually(put_aside, "the batch is put aside")
    assert put_aside() == ["process_lost"]
    assert_each_once(herald, scribe, but=deadly)


def test_a_worker_told_to_stop_under_load_loses_and_doubles_nothing(
    herald: Herald, scribe: Scribe, start_workers: StartWorkers
) -> None:
    [worker] = start_workers()
    with scribe.closed_gate(f"gate:{uuid4()}") as gate:
        at_work = publish(herald, 3, model=gate)
        for _ in range(4):
            publish(herald, 5)
        eventually(lambda: scribe.deliveries(at_work), "the worker is busy")
        worker.ask_to_stop()
    assert worker.wait() == 0
    # What it had begun it finished, and nothing else.
    assert sorted(scribe.effects(herald.sent())) == sorted(at_work)
    start_workers()
    assert_each_once(herald, scribe)


# RabbitMQ gives a message to one consumer for as long as that one lives.
@pytest.mark.parametrize("broker", ["valkey"], indirect=True)
def test_a_message_that_outlives_its_visibility_takes_effect_once(
    herald: Herald, scribe: Scribe, start_workers: StartWorkers
) -> None:
    start_workers(2)
    with scribe.closed_gate(f"gate:{uuid4()}") as gate:
        ids = publish(herald, 3, model=gate)
        eventually(lambda: max(_counts(scribe, ids)) >= 2, "the message comes again")
    eventually(lambda: len(scribe.effects(ids)) == 3, "the events take effect")
    assert_each_once(herald, scribe)


def test_a_worker_that_cannot_be_wired_takes_nothing(
    herald: Herald, scribe: Scribe, start_workers: StartWorkers, tmp_path: Path
) -> None:
    missing = tmp_path / "missing"
    missing.touch()
    [worker] = start_workers(NOT_WIRABLE=str(missing))
    ids = publish(herald, 5)
    eventually(lambda: "worker_not_wired" in worker.log.read_text(), "the worker says so")
    assert scribe.deliveries(ids) == {}
    missing.unlink()
    assert_each_once(herald, scribe)


def test_a_broker_killed_half_way_loses_and_doubles_nothing(
    herald: Herald, scribe: Scribe, broker: Broker, start_workers: StartWorkers
) -> None:
    start_workers()
    with scribe.closed_gate(f"gate:{uuid4()}") as gate:
        # One message at work, others behind it, some events still in the outbox.
        at_work = publish(herald, 2, model=gate)
        publish(herald, 300)
        eventually(lambda: scribe.deliveries(at_work), "the worker is busy")
        herald.publish([a_usage() for _ in range(300)], tier=TIER)
        broker.kill()
        herald.publish([a_usage() for _ in range(10)], tier=TIER)
        broker.start_again()
    herald.drain()
    assert_each_once(herald, scribe)
    stream = f"usage.recorded.{TIER}"
    assert herald.sequences(stream) == list(range(1, 613))


def test_two_relays_lose_and_double_nothing_while_their_broker_is_restarted(
    herald: Herald, scribe: Scribe, broker: Broker, start_workers: StartWorkers
) -> None:
    start_workers()
    count = 6 * 700
    for _ in range(6):
        herald.publish([a_usage() for _ in range(700)], tier=TIER)
    # A RabbitMQ that was killed may take a minute until it takes anything again.
    drain = partial(herald.drain, seconds=180)
    relays = [threading.Thread(target=drain) for _ in range(2)]
    for relay in relays:
        relay.start()
    eventually(lambda: herald.waiting() < count, "they are at work")
    broker.kill()
    assert herald.waiting(), "the broker went too late to be in the middle"
    # Both find out that nothing goes any more, and go on once it does.
    herald.publish([a_usage()], tier=TIER)
    broker.start_again()
    for relay in relays:
        relay.join()
    assert_each_once(herald, scribe)
    assert herald.sequences(f"usage.recorded.{TIER}") == list(range(1, count + 2))


@pytest.fixture
def mortal_postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL that the test may stop."""
    with running_postgres(tmp_path) as server:
        yield server


def test_events_wait_for_a_database_that_is_gone(
    herald: Herald, broker: Broker, mortal_postgres: PostgresServer, tmp_path: Path
) -> None:
    declare_queues(listen_as("patient"), broker.url)
    mortal_postgres.create_database("companion_patient")
    create_tables(mortal_postgres.url_of("companion_patient"))
    patient = Scribe(mortal_postgres.url, broker.url, tmp_path, service="patient")
    worker = patient.start_worker(TIER)
    worker.wait_until_ready()
    try:
        publish(herald, 5)
        assert_each_once(herald, patient)
        patient.close()
        mortal_postgres.child.stop()
        publish(herald, 30)
        eventually(lambda: "event_waits" in worker.log.read_text(), "the worker waits")
        mortal_postgres.child.start_again(mortal_postgres.engine.is_ready)
        assert_each_once(herald, patient)
        assert patient.dead() == []
    finally:
        worker.kill()
        patient.close()


def _counts(scribe: Scribe, ids: list[UUID]) -> list[int]:
    deliveries = scribe.deliveries(ids)
    return [deliveries[id_] for id_ in ids]
