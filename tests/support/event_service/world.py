"""A producer, a broker and a listener, and the one comparison that matters: lost 0, double 0."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, text

from shared.db.database import open_database
from shared.db.engine import sync_engine
from shared.events import Event
from shared.events.usage import UsageRecorded
from shared.messaging.publisher import NotSent, Publisher
from shared.messaging.relay import Relay
from shared.settings import service_database_url
from tests.support.event_service.storage import HeraldWork

_ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 30.0


def eventually(
    condition: Callable[[], object], what: str, *, seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait until the condition holds; fails with `what` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
        time.sleep(0.02)


def a_usage(*, model: str = "plain") -> UsageRecorded:
    """A usage whose `model` may ask for a fault."""
    return UsageRecorded(
        user_id=uuid4(),
        operation="chat",
        provider="openai",
        model=model,
        source="provider",
        outcome="done",
        input_tokens=3,
        request_id="request-1",
    )


class Process:
    """A child of the tests, with all that it starts itself."""

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], directory: Path
    ) -> None:
        self.log = directory / f"{words[-1].replace('/', '-')}-{time.monotonic_ns()}.log"
        ready_file = self.log.with_suffix(".ready")
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *words],
                cwd=_ROOT,
                env={**os.environ, **environment, "READY_FILE": str(ready_file)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._ready_file = ready_file

    def wait_until_ready(self) -> None:
        eventually(self._is_ready, f"{self.log} says that it is ready")

    def _is_ready(self) -> bool:
        assert self.has_ended() is False, self.log.read_text()[-3000:]
        return self._ready_file.exists()

    @property
    def process_id(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def ask_to_stop(self) -> None:
        """SIGTERM, to the parent alone, as a supervisor sends it."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it and its children as a crash would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@dataclass
class Herald:
    """The producing side: one database with an outbox."""

    url: str
    broker_url: str
    engine: Engine = field(init=False)
    _publishers: list[Publisher] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = sync_engine(self.url, connections=4)

    def close(self) -> None:
        for publisher in self._publishers:
            publisher.close()
        self.engine.dispose()

    def publish(self, events: Iterable[Event], *, tier: str = "free") -> list[UUID]:
        """Commit the events in one unit of work; answers their ids."""
        return asyncio.run(self._publish(list(events), tier))

    async def _publish(self, events: list[Event], tier: str) -> list[UUID]:
        async with open_database(self.url, connections=1, application="herald") as database:
            async with HeraldWork(database) as work:
                for event in events:
                    work.publish(event, subject=uuid4(), tier=tier)
            rows = await database.fetch("select event_id from outbox")
        return [row["event_id"] for row in rows]

    def publisher(self) -> Publisher:
        """A connection to the broker, closed with the herald."""
        self._publishers.append(Publisher(self.broker_url))
        return self._publishers[-1]

    def relay(self) -> Relay:
        return Relay("herald", self.engine, self.publisher())

    def drain(self, relay: Relay | None = None, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Relay until nothing waits, through whatever trouble there is."""
        relay = relay or self.relay()

        def is_empty() -> bool:
            with contextlib.suppress(NotSent):
                relay.run_once()
            return self.waiting() == 0

        eventually(is_empty, "the outbox is empty", seconds=seconds)

    def expire_leases(self) -> None:
        """As if a lease's time had passed."""
        self.run("update outbox set leased_until = now() - interval '1 second'")

    def waiting(self) -> int:
        return int(self.rows("select count(*) as n from outbox")[0].n)

    def sent(self) -> list[UUID]:
        return [row.event_id for row in self.rows("select event_id from outbox_sent")]

    def sequences(self, stream: str) -> list[int]:
        """The numbers given along a stream, sent or not."""
        sql = """
            select sequence from outbox where stream = :stream union all
            select sequence from outbox_sent where stream = :stream order by 1
        """
        return [row.sequence for row in self.rows(sql, stream=stream)]

    def rows(self, sql: str, **values: Any) -> Sequence[Any]:
        with self.engine.begin() as connection:
            return connection.execute(text(sql), values).all()

    def run(self, sql: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(sql), values)


@dataclass
class Scribe:
    """The listening side: one database of effects, and workers."""

    server_url: str
    broker_url: str
    directory: Path
    service: str = "scribe"
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        url = service_database_url(self.server_url, self.service)
        self.engine = sync_engine(url, connections=2)

    def close(self) -> None:
        self.engine.dispose()

    def start_worker(
        self,
        *tiers: str,
        environment: Mapping[str, str] | None = None,
        transport_options: Mapping[str, float] | None = None,
    ) -> Process:
        """A Celery worker for the queues of some tiers; not yet ready."""
        queues = ",".join(f"{self.service}.usage.{tier}" for tier in tiers)
        words = [
            "-m",
            "shared.messaging.celery_command",
            "-A",
            "tests.support.event_service.worker:app",
            "worker",
        ]
        words += ["--pool", "prefork", "--concurrency", "1", "--loglevel", "info"]
        words += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        words += ["--queues", queues]
        surroundings = {**self._environment(transport_options or {}), **(environment or {})}
        return Process(words, surroundings, self.directory)

    def _environment(self, transport_options: Mapping[str, float]) -> dict[str, str]:
        return {
            "EVENT_SERVICE": self.service,
            "DATABASE_URL": self.server_url,
            "BROKER_URL": self.broker_url,
            "CACHE_URL": "redis://127.0.0.1:1/0",
            "JWKS_URL": "http://127.0.0.1:1/",
            "IDENTITY_KEY_FILE": "none",
            "IDENTITY_TRUST_FILE": "none",
            "TRANSPORT_OPTIONS": json.dumps(transport_options),
        }

    def effects(self, ids: Sequence[UUID]) -> Counter[UUID]:
        """How often each of the events took effect."""
        return self._count("effect", ids)

    def deliveries(self, ids: Sequence[UUID]) -> Counter[UUID]:
        """How often each of the events reached the handler."""
        return self._count("delivery", ids)

    def _count(self, table: str, ids: Sequence[UUID]) -> Counter[UUID]:
        sql = f"select event_id from {table} where event_id = any(:ids)"
        return Counter(row.event_id for row in self.rows(sql, ids=list(ids)))

    def dead(self) -> Sequence[Any]:
        """What was put aside, oldest first."""
        return self.rows("select task, reason, body from dead_event order by id")

    def close_gate(self, name: str) -> None:
        self.run("insert into gate values (:name, false)", name=name)

    def open_gate(self, name: str) -> None:
        self.run("update gate set open = true where name = :name", name=name)

    @contextlib.contextmanager
    def closed_gate(self, name: str) -> Iterator[str]:
        """A gate that is closed inside the block, and open afterwards whatever happens."""
        self.close_gate(name)
        try:
            yield name
        finally:
            self.open_gate(name)

    def rows(self, sql: str, **values: Any) -> Sequence[Any]:
        with self.engine.begin() as connection:
            return connection.execute(text(sql), values).all()

    def run(self, sql: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(sql), values)


def assert_each_once(herald: Herald, scribe: Scribe, *, but: Iterable[UUID] = ()) -> None:
    """Every event that was sent took effect exactly once: lost 0, double 0."""
    expected = set(herald.sent()) - set(but)
    assert herald.waiting() == 0, "some events were never sent"

    def all_there() -> bool:
        return len(scribe.effects(sorted(expected))) == len(expected)

    eventually(all_there, "every event has its effect")
    counted = scribe.effects(sorted(expected))
    assert {id_: n for id_, n in counted.items() if n != 1} == {}
