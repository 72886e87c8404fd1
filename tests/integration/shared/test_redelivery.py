"""Messages that come again and again, and a broker that forgets what it was given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import kombu
import pytest
import redis

from shared.db import archive
from shared.db.database import open_database
from shared.messaging.broker import DELIVERY_LIMIT
from shared.messaging.queues import declare_queues
from tests.integration.shared.conftest import SHORT_WAITS
from tests.support.engines import PostgresServer
from tests.support.event_service.brokers import Broker
from tests.support.event_service.tasks import listen_as
from tests.support.event_service.world import (
    Herald,
    Scribe,
    a_usage,
    assert_each_once,
    eventually,
)

TIER, STREAM = "pro", "usage.recorded.pro"

on_rabbitmq = pytest.mark.parametrize(
    "broker", [pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)], indirect=True
)


@pytest.fixture
def scribe(
    broker: Broker, postgres_server: PostgresServer, tables: str, tmp_path: Path
) -> Iterator[Scribe]:
    """A listener of this test's own: nobody else's messages come to its queues."""
    service = f"scribe{uuid4().hex[:8]}"
    declare_queues(listen_as(service), broker.url)
    postgres_server.create_database(f"companion_{service}", template=tables)
    scribe = Scribe(postgres_server.url, broker.url, tmp_path, service=service)
    yield scribe
    scribe.close()
    postgres_server.drop_database(f"companion_{service}")
    with kombu.Connection(broker.url) as connection:
        for queue in listen_as(service).queues(broker.url):
            queue(connection.default_channel).delete()


def queue_of(scribe: Scribe) -> str:
    return f"{scribe.service}.usage.{TIER}"


@pytest.fixture
def worker(scribe: Scribe) -> Iterator[Any]:
    """Starts a worker of this tier, when the test says so."""
    started: list[Any] = []

    def start() -> None:
        started.append(scribe.start_worker(TIER, transport_options=SHORT_WAITS))
        started[-1].wait_until_ready()

    yield start
    for one in started:
        one.kill()


def published(herald: Herald, count: int) -> list[UUID]:
    ids = herald.publish([a_usage() for _ in range(count)], tier=TIER)
    herald.drain()
    return ids


def give_back(broker: Broker, queue: str, times: int) -> int:
    """Take the first message and give it back, as a consumer in trouble does; answers how often it
    could be had."""
    had = 0
    with kombu.Connection(broker.url) as connection:
        channel: Any = connection.default_channel
        deadline = time.monotonic() + 20
        while had < times and time.monotonic() < deadline:
            message = channel.basic_get(queue, no_ack=False)
            if message is not None:
                channel.basic_reject(message.delivery_tag, requeue=True)
                had += 1
            elif channel.queue_declare(queue, passive=True).message_count == 0:
                break
    return had


def ids_in(dead: Any) -> set[str]:
    events = dead.body.get("events", ()) if isinstance(dead.body, dict) else ()
    return {event["id"] for event in events}


@pytest.mark.slow  # RabbitMQ takes its time to give a message back so often
@on_rabbitmq
def test_a_message_that_comes_21_times_is_put_aside_whole_and_takes_effect_once_sent_again(
    herald: Herald, scribe: Scribe, broker: Broker, worker: Any
) -> None:
    ids = published(herald, 5)
    assert give_back(broker, queue_of(scribe), 21) == 21
    worker()
    # For all the worker can tell it has ended 21 of its kind, so it is not tried once more.
    whole = {str(id_) for id_ in ids}
    eventually(lambda: whole in map(ids_in, scribe.dead()), "the batch is put aside whole")
    assert scribe.effects(ids) == {}
    send_again(herald)
    assert_each_once(herald, scribe)


@pytest.mark.slow
@on_rabbitmq
def test_what_comes_too_often_lies_among_the_dead_letters_and_can_be_sent_again(
    herald: Herald, scribe: Scribe, broker: Broker, worker: Any
) -> None:
    queue = queue_of(scribe)
    published(herald, 3)
    assert DELIVERY_LIMIT <= give_back(broker, queue, DELIVERY_LIMIT * 2) <= DELIVERY_LIMIT + 1
    eventually(lambda: broker.dead_letters(queue) == 1, "the broker puts it aside")
    worker()
    send_again(herald)
    assert_each_once(herald, scribe)


@pytest.mark.parametrize("broker", ["valkey"], indirect=True)
def test_what_the_broker_forgets_is_sent_again_from_the_archive(
    herald: Herald, scribe: Scribe, broker: Broker, worker: Any
) -> None:
    ids = published(herald, 7)
    with redis.Redis.from_url(broker.url) as client:
        client.flushall()
    # The bindings are gone, too. What is published now stays in the outbox, and is not lost.
    herald.publish([a_usage() for _ in range(2)], tier=TIER)
    assert herald.relay().run_once() == 0 and herald.waiting() == 2
    declare_queues(listen_as(scribe.service), broker.url)
    worker()
    herald.drain()
    eventually(lambda: len(scribe.effects(herald.sent())) == 2, "the later ones take effect")
    # The numbers show what did not come; its producer has kept it.
    assert scribe.effects(ids) == {}
    send_again(herald)
    assert_each_once(herald, scribe)
    assert herald.sequences(STREAM) == list(range(1, 10))


def send_again(herald: Herald) -> None:
    """What a request for all that was ever sent does."""

    async def ask() -> None:
        async with open_database(herald.url, connections=1, application="test") as database:
            (end,) = await archive.stream_ends(database, STREAM)
            await archive.send_again(database, STREAM, end.epoch, first=1, last=end.last_sequence)

    asyncio.run(ask())
    herald.drain()
