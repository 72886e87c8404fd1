"""The copy of the usage messages, read by the example of the documentation."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import kombu
import pytest

from deploy.companion import queues
from services.billing.providers.export_queue import BrokersExportQueue
from services.billing.tasks import listen
from shared.db.database import Database
from shared.events.usage import UsageManifest, UsageRecorded, UsageReported, UsageVoided
from shared.messaging import batch as batches
from shared.messaging.broker import EXCHANGE_NAME, is_rabbitmq
from shared.messaging.consumer import Consumer
from shared.messaging.export_queue import EXPORT_QUEUE, STREAMS, ExportQueue
from shared.messaging.publisher import Publisher
from shared.messaging.queues import declare_queues
from shared.messaging.unread import NAME
from tests.integration.billing.harness import a_message, ids_in
from tests.support.billing import a_manifest, a_usage
from tests.support.engines import RabbitServer, ValkeyServer

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
LEDGER_QUEUE = "billing.usage.free"
VISIBILITY_SECONDS = 1  # of what the example has taken, on Valkey


@pytest.fixture(
    scope="module", params=["valkey", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]
)
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each of the two brokers in turn, or a part of it that nobody else uses."""
    with contextlib.ExitStack() as stack:
        if request.param == "valkey":
            valkey: ValkeyServer = request.getfixturevalue("valkey_server")
            yield stack.enter_context(valkey.fresh_database())
            return
        rabbit: RabbitServer | None = request.getfixturevalue("rabbitmq_server")
        if rabbit is None:
            pytest.skip("this machine has no RabbitMQ")
        yield stack.enter_context(rabbit.fresh_virtual_host())


@pytest.fixture
def broker_url(broker: str) -> str:
    """It with billing's own queues, empty, and no other."""
    declare_queues(listen, broker)
    with kombu.Connection(broker) as connection:
        channel: Any = connection.default_channel
        channel.queue_purge(LEDGER_QUEUE)
        ExportQueue(broker, most_messages=100).unbind()
        if is_rabbitmq(broker):
            channel.queue_delete(EXPORT_QUEUE)
        else:
            channel.queue_purge(EXPORT_QUEUE)
    return broker


@pytest.fixture
def publisher(broker_url: str) -> Iterator[Publisher]:
    publisher = Publisher(broker_url)
    yield publisher
    publisher.close()


def waiting(broker_url: str, queue: str = EXPORT_QUEUE) -> int:
    with kombu.Connection(broker_url) as connection:
        declared: Any = connection.default_channel.queue_declare(queue, passive=True)  # type: ignore[attr-defined]
        return int(declared.message_count)


def messages(broker_url: str, queue: str) -> Iterator[tuple[str, Any]]:
    """Take everything out of a queue: each message's type and batch."""
    with kombu.Connection(broker_url) as connection:
        bound = kombu.Queue(queue, no_declare=True)(connection.default_channel)
        while (message := bound.get(no_ack=True, accept=["json"])) is not None:
            _, kwargs, _ = message.decode()
            yield message.headers["task"], kwargs["batch"]


def send(publisher: Publisher, type_: str, batch: Any, tier: str = "free") -> None:
    publisher.send(f"{type_}.{tier}", type_, batch, routed=True)


class Example:
    """The documentation's consumer as a process."""

    def __init__(self, broker_url: str, folder: Path) -> None:
        self.database = folder / "usage.sqlite3"
        self._log = folder / "consumer.log"
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "BROKER_URL": broker_url,
            "USAGE_DATABASE": str(self.database),
            "USAGE_VISIBILITY_SECONDS": str(VISIBILITY_SECONDS),
        }
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        words = ["-m", "celery", "--app", "usage_consumer", "worker", "--pool", "solo"]
        words += ["--queues", EXPORT_QUEUE, "--without-gossip", "--without-mingle"]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *words],
                cwd=EXAMPLES,
                env={**self._environment, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.wait()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        if not self.database.exists():
            return []
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            try:
                return list(database.execute(statement))
            except sqlite3.OperationalError:  # its tables are not there yet
                return []

    def until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < deadline, f"{what}\n{self._log.read_text()[-3000:]}"
            time.sleep(0.02)


@pytest.fixture
def example(broker_url: str, tmp_path: Path) -> Iterator[Callable[[], Example]]:
    started: list[Example] = []

    def start() -> Example:
        started.append(Example(broker_url, tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.kill()


async def test_what_reaches_the_ledger_reaches_the_example_once_though_it_is_killed(
    broker_url: str,
    publisher: Publisher,
    example: Callable[[], Example],
    consumer: Consumer,
    database: Database,
) -> None:
    ExportQueue(broker_url, most_messages=1_000).bind()
    usage = [[a_usage(sequence=b * 5 + n + 1) for n in range(5)] for b in range(60)]
    usage.append([a_usage(sequence=300 + n + 1) for n in range(100)])  # it travels packed
    voided = UsageVoided(user_id=uuid4(), event_id=usage[0][0].id, reason="a test")
    for batch in usage:
        send(publisher, UsageRecorded.type, a_message(batch))
    reader = example()
    reader.until(lambda: bool(reader.rows("select 1 from usage")), "the first batches come")
    reader.kill()
    assert len(reader.rows("select 1 from usage")) < 400, "it was killed in the middle"
    for batch in usage[:10]:  # as a producer does who is asked for a range once more
        send(publisher, UsageRecorded.type, a_message(batch))
    fact = a_usage()
    send(publisher, UsageManifest.type, a_message([a_manifest(400)]))
    wire = a_message([fact])
    wire["events"][0] |= {
        "type": "usage.voided",
        "data": voided.model_dump(mode="json"),
    }
    send(publisher, UsageVoided.type, wire)
    told = UsageReported(
        user_id=uuid4(),
        meter="screenshot",
        model="screenshot",
        units=3,
        unit="screenshot",
        occurred_at=datetime.now(UTC),
        reported_source="/screenshots",
        reported_id="shot-1",
    )
    wire = a_message([fact])
    wire["events"][0] |= {"type": told.type, "data": told.model_dump(mode="json")}
    send(publisher, told.type, wire)
    send(publisher, UsageRecorded.type, {"batch_id": "b", "count": 3, "events": "none"})
    # What it had taken is given back to whoever starts after this time, or to somebody who has been
    # there for long.
    time.sleep(VISIBILITY_SECONDS)
    reader.process = reader.start()
    reader.until(lambda: bool(reader.rows("select 1 from manifest")), "the manifest comes")
    reader.until(lambda: len(reader.rows("select 1 from usage")) == 400, "all events come")
    reader.until(lambda: bool(reader.rows("select 1 from unreadable")), "the broken one is kept")
    for type_, batch in messages(broker_url, LEDGER_QUEUE):
        if type_ == UsageRecorded.type and "sha256" in batch:
            await consumer.receive(type_, batch)
    ledger = sorted(map(str, await ids_in(database)))
    assert len(ledger) == len(set(ledger)) == 400
    assert sorted(id_ for (id_,) in reader.rows("select event_id from usage")) == ledger
    assert reader.rows("select corrects from correction") == [(str(usage[0][0].id),)]
    assert reader.rows("select last_sequence from manifest") == [(400,)]
    assert reader.rows("select meter, units from reported") == [("screenshot", 3)]


def test_the_example_reads_what_our_worker_has_sent_again(
    broker_url: str, publisher: Publisher, example: Callable[[], Example]
) -> None:
    ExportQueue(broker_url, most_messages=100).bind()
    fact = a_usage()
    bodies = [batches.body_of([[], {"batch": a_message([fact])}, {}]), b"no JSON"]
    with kombu.Connection(broker_url) as connection:
        for body in bodies:
            connection.Producer(auto_declare=False, serializer="json").publish(
                [[], {NAME: body}, {}],
                exchange=EXCHANGE_NAME,
                routing_key=f"{UsageRecorded.type}.free",
                headers={"id": str(uuid4()), "task": UsageRecorded.type, "retries": 1},
            )
    send(publisher, UsageManifest.type, a_message([a_manifest(1)]))
    reader = example()
    # By two connections, so any of them may be the last.
    tables = ("usage", "unreadable", "manifest")
    reader.until(lambda: all(reader.rows(f"select 1 from {one}") for one in tables), "all come")
    assert reader.rows("select event_id from usage") == [(str(fact.id),)]
    assert reader.rows("select body from unreadable") == [("\"b'no JSON'\"",)]


async def test_off_is_the_default_and_nothing_fills_up(
    broker_url: str, publisher: Publisher, settings: Callable[..., Any]
) -> None:
    assert settings().export_queue is False
    unwanted = BrokersExportQueue(broker_url, wanted=False, most_messages=100)
    assert await unwanted.keep() == 0
    send(publisher, UsageRecorded.type, a_message([a_usage()]))
    assert waiting(broker_url, LEDGER_QUEUE) == 1
    wanted = BrokersExportQueue(broker_url, wanted=True, most_messages=100)
    assert await wanted.keep() == 0
    send(publisher, UsageRecorded.type, a_message([a_usage()]))
    assert await wanted.keep() == 1
    assert await unwanted.keep() == 0
    send(publisher, UsageRecorded.type, a_message([a_usage()]))
    assert waiting(broker_url) == 1  # what was there stays, and no more comes
    assert waiting(broker_url, LEDGER_QUEUE) == 3


async def test_a_queue_that_nobody_reads_drops_its_oldest_and_holds_up_nobody(
    broker_url: str, publisher: Publisher
) -> None:
    queue = BrokersExportQueue(broker_url, wanted=True, most_messages=100)
    await queue.keep()
    sent = [a_message([a_usage()]) for _ in range(110)]
    for batch in sent:
        send(publisher, UsageRecorded.type, batch)
    assert waiting(broker_url, LEDGER_QUEUE) == 110
    assert await queue.keep() == 100
    kept = [batch["batch_id"] for _, batch in messages(broker_url, EXPORT_QUEUE)]
    assert kept == [batch["batch_id"] for batch in sent[10:]]
    # Another limit changes nothing about a queue that is there already, and harms nothing.
    await BrokersExportQueue(broker_url, wanted=True, most_messages=200).keep()


def test_it_is_there_before_the_first_message(
    broker_url: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "SERVICES", ())
    monkeypatch.setenv("BILLING_EXPORT_QUEUE", "1")
    queues.declare_all(broker_url)
    send(publisher, UsageRecorded.type, a_message([a_usage()]))
    assert waiting(broker_url) == 1


def test_every_stream_that_billing_reads_usage_from_is_copied() -> None:
    assert EXCHANGE_NAME == "companion.events"
    usage = {
        f"{s.event.type}.{tier}"
        for s in listen.subscriptions.values()
        if s.queue == "usage"
        for tier in ("free", "pro", "enterprise")
    }
    told = {f"{UsageReported.type}.{tier}" for tier in ("free", "pro", "enterprise")}
    assert usage | told == set(STREAMS)
