"""While nothing happens, relay and workers sleep; whatever happens wakes them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kombu import Connection, Queue
from kombu.asynchronous import Hub

from shared.db.database import Database, open_database
from shared.events.user import UserRegistered
from shared.messaging import relay as relays
from shared.messaging.publisher import Publisher
from shared.messaging.queues import declare_queues
from shared.messaging.relay import Relay, keep_running
from shared.messaging.relay_bell import RelayBell
from shared.messaging.resting import SignalPipe, stop_waiting
from tests.support.engines import PostgresServer
from tests.support.event_service.brokers import valkey_broker
from tests.support.event_service.tasks import listen_as
from tests.support.event_service.world import Herald, eventually

A_LONG_WHILE = 60.0


class _Silent(Publisher):
    """Takes every batch and sends it nowhere."""

    def __init__(self) -> None:
        """It has no broker."""

    def send(self, stream: str, type_: str, batch: Mapping[str, Any], *, routed: bool) -> None:
        assert batch["count"]


@pytest.fixture
def producer(postgres_server: PostgresServer, tables: str) -> Iterator[Herald]:
    with postgres_server.fresh_database(template=tables) as url:
        herald = Herald(url, "redis://nobody@127.0.0.1:1/1")
        yield herald
        herald.close()


@contextmanager
def at_rest(producer: Herald, *, pause: float, awake: float = 0.0) -> Iterator[threading.Thread]:
    """A relay that has nothing to do and has gone to sleep."""
    relay, bell, stop = (
        Relay("herald", producer.engine, _Silent()),
        RelayBell(producer.url),
        _Stop(),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relays, "_AWAKE_SECONDS", awake)
        patch.setattr(relays, "_PAUSE_AT_REST", pause)
        thread = threading.Thread(target=keep_running, args=(relay, bell, stop, "herald"))
        thread.start()
        # The bell's own first answer wakes it once.
        eventually(lambda: _listeners(producer) == 1, "it listens")
        time.sleep(0.1)
        try:
            yield thread
        finally:
            stop.set()
            bell.end()
            thread.join(1)
            assert not thread.is_alive()
            bell.close()


_Stop = threading.Event


def _listeners(producer: Herald) -> int:
    sql = """
        select count(*) as n from pg_stat_activity
        where datname = current_database() and query = 'listen outbox'
    """
    return int(producer.rows(sql)[0].n)


def _a_fact() -> UserRegistered:
    return UserRegistered(user_id=uuid4())


def test_what_happens_wakes_the_relay_at_once(producer: Herald) -> None:
    with at_rest(producer, pause=A_LONG_WHILE):
        producer.publish([_a_fact()])
        eventually(lambda: producer.waiting() == 0, "it is sent", seconds=3)


def test_a_burst_after_a_rest_goes_at_once(
    producer: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "BATCH_SIZE", 5)
    with at_rest(producer, pause=A_LONG_WHILE):
        producer.publish([_a_fact() for _ in range(23)])
        eventually(lambda: producer.waiting() == 0, "all of it is sent", seconds=3)


def test_what_rang_for_nobody_is_found_within_the_pause(
    producer: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(_database: Database) -> None:
        """As if the process had died just before it rang."""

    monkeypatch.setattr(Database, "wake_relay", lost)
    with at_rest(producer, pause=0.3):
        producer.publish([_a_fact()])
        eventually(lambda: producer.waiting() == 0, "it is sent", seconds=3)


def test_after_a_ring_the_relay_stays_awake_for_what_does_not_ring(
    producer: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(_database: Database) -> None:
        """A process rings at most once a second."""

    with at_rest(producer, pause=A_LONG_WHILE, awake=2.0):
        producer.publish([_a_fact()])
        eventually(lambda: producer.waiting() == 0, "the first is sent", seconds=3)
        monkeypatch.setattr(Database, "wake_relay", lost)
        producer.publish([_a_fact()])
        eventually(lambda: producer.waiting() == 0, "the second too", seconds=3)


def test_who_may_have_missed_a_ring_looks(producer: Herald) -> None:
    bell = RelayBell(producer.url)
    try:
        assert bell.rang_within(0)  # from now on it listens
        assert not bell.rang_within(0)
        producer.run("notify outbox")
        assert bell.rang_within(3)
        sql = "select pg_terminate_backend(pid) from pg_stat_activity where query = 'listen outbox'"
        producer.rows(sql)
        eventually(lambda: bell.rang_within(0.5), "it notices", seconds=3)
        assert bell.rang_within(3)  # now it listens again
        assert not bell.rang_within(0)
    finally:
        bell.close()


async def test_a_process_rings_at_most_once_a_second(producer: Herald) -> None:
    bell = RelayBell(producer.url)
    try:
        assert bell.rang_within(0)
        async with open_database(producer.url, connections=1, application="herald") as database:
            await database.wake_relay()
            assert bell.rang_within(3)
            for _ in range(5):
                await database.wake_relay()
        assert not bell.rang_within(0.1)
    finally:
        bell.close()


async def test_a_ring_that_fails_does_not_look_like_a_commit_that_failed(
    producer: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.db.database.BELL", "no name of a channel")
    async with open_database(producer.url, connections=1, application="herald") as database:
        await database.wake_relay()
        await database.check()


async def test_nor_does_one_that_finds_no_connection(
    producer: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        open_database(producer.url, connections=1, application="herald") as database,
        database.connection(),
    ):
        monkeypatch.setattr("shared.db.connections._WAIT_SECONDS", 0.02)
        await database.wake_relay()


@pytest.fixture
def waiting_for_messages(tmp_path: Path) -> Iterator[Connection]:
    """A consumer whose question for messages Valkey will answer in a minute."""
    with valkey_broker(tmp_path) as broker:
        declare_queues(listen_as("scribe"), broker.url)
        options = {"polling_interval": A_LONG_WHILE}
        with Connection(broker.url, transport_options=options) as connection:
            queue = Queue("scribe.usage.pro", no_declare=True)
            with connection.Consumer([queue], accept=["json"], callbacks=[]):
                transport: Any = connection.transport
                transport.cycle.on_poll_start()
                assert any(channel._in_poll for channel in transport.cycle._channels)
                yield connection


def test_who_ends_does_not_wait_for_messages(waiting_for_messages: Connection) -> None:
    began_at = time.monotonic()
    stop_waiting(waiting_for_messages)
    waiting_for_messages.close()
    assert time.monotonic() - began_at < A_LONG_WHILE / 4


def test_a_signal_wakes_a_worker_at_rest() -> None:
    hub, heard = Hub(), []
    hub.timer.call_after(A_LONG_WHILE, lambda: None)
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(time.monotonic()))
    try:
        SignalPipe().wake(hub)
        began_at = time.monotonic()
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        next(hub.create_loop())
        assert time.monotonic() - began_at < A_LONG_WHILE / 4
        assert heard
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, before)
        hub.close()
