"""A PostgreSQL that stands still while usage is copied into the ledger, and comes back: its
connections stay, so that nothing but a limit of ours ends a wait, and nobody can tell what became
of a commit. Nothing is lost, nothing is there twice, and nobody has to see to it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psutil
import pytest
from prometheus_client import REGISTRY

from services.billing.actions import Actions
from services.billing.domain.ledger import Entry
from services.billing.domain.usage_columns import UsageColumns
from services.billing.settings import Settings
from services.billing.storage.ledger import SqlLedger
from services.billing.storage.unit_of_work import SqlWork
from services.billing.tasks import listen
from shared.db.database import Database, open_database
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.messaging.consumer import Consumer
from tests.integration.billing.harness import a_message, actions_on, drift, ids_in, take_in
from tests.support.billing import (
    StoppedClock,
    a_usage,
)
from tests.support.engines import PostgresServer

pytestmark = pytest.mark.slow

SIZE = 200
# Longer than a statement of ours may take (10 s), so that its client has given it up.
STALL_SECONDS = 12.0
MOMENTS = ("before the copy", "before the commit", "after the commit")


@pytest.fixture
def server(mortal_postgres: PostgresServer) -> PostgresServer:
    return mortal_postgres


@pytest.fixture
def database(mortal_database: Database) -> Database:
    """What a worker has open, and its tests."""
    return mortal_database


def stand_still(server: PostgresServer, *, backends_only: bool) -> Callable[[], None]:
    """Answers what lets it go on."""
    postmaster = psutil.Process(server.child.pid)
    children = postmaster.children(recursive=True)
    stopped = [*children] if backends_only else [postmaster, *children]
    for process in stopped:
        os.kill(process.pid, signal.SIGSTOP)

    def go_on() -> None:
        for process in reversed(stopped):
            if process.is_running():
                os.kill(process.pid, signal.SIGCONT)

    return go_on


@dataclass
class Moment:
    """Brings the server to a stop the first time that it is reached."""

    server: PostgresServer
    name: str
    backends_only: bool
    was_reached: bool = False

    def reached(self, name: str) -> None:
        if name == self.name and not self.was_reached:
            self.was_reached = True
            go_on = stand_still(self.server, backends_only=self.backends_only)
            asyncio.get_running_loop().call_later(STALL_SECONDS, go_on)


class WatchedLedger:
    """The ledger, with a word before and after a copy."""

    def __init__(self, ledger: SqlLedger, moment: Moment) -> None:
        self._ledger, self._moment = ledger, moment

    async def add_columns(self, usage: UsageColumns) -> int:
        self._moment.reached("before the copy")
        added = await self._ledger.add_columns(usage)
        self._moment.reached("before the commit")
        return added

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


class WatchedWork(SqlWork):
    """Billing's transaction, with a word after its commit."""

    def __init__(self, database: Database, moment: Moment) -> None:
        super().__init__(database)
        self._moment = moment

    def open_repositories(self) -> None:
        super().open_repositories()
        self.ledger = WatchedLedger(self.ledger, self._moment)  # type: ignore[assignment]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if error is None:
            self._moment.reached("after the commit")


Worker = Callable[..., tuple[Consumer, Actions]]


@pytest.fixture
def worker(database: Database, settings: Callable[..., Settings]) -> Worker:
    """What handles messages in a worker's process."""

    def make(moment: Moment | None = None) -> tuple[Consumer, Actions]:
        actions = actions_on(
            lambda: SqlWork(database) if moment is None else WatchedWork(database, moment),
            settings(),
            StoppedClock(),
        )
        return Consumer(listen, actions, database), actions

    return make


async def receive(consumer: Consumer, facts: list[Fact[UsageRecorded]]) -> None:
    await asyncio.wait_for(take_in(consumer, a_message(facts)), 90)


async def each_is_there_once(database: Database, facts: list[Fact[UsageRecorded]]) -> None:
    assert sorted(await ids_in(database)) == sorted(fact.id for fact in facts)
    assert await drift(database) == []
    assert await database.fetch("select * from dead_event") == []


def waits() -> float:
    """How often a worker had to wait for its database so far."""
    labels = {"service": "billing", "type": UsageRecorded.type, "reason": "dependency_unavailable"}
    return REGISTRY.get_sample_value("companion_event_waits_total", labels) or 0


@pytest.mark.parametrize("backends_only", [True, False], ids=["its backends", "all of it"])
@pytest.mark.parametrize("name", MOMENTS)
async def test_a_server_that_stands_still_at_some_moment_of_a_batch(
    server: PostgresServer, database: Database, worker: Worker, name: str, backends_only: bool
) -> None:
    moment = Moment(server, name, backends_only)
    consumer, actions = worker(moment)
    facts = [a_usage(sequence=n) for n in range(1, 2 * SIZE + 1)]
    await receive(consumer, facts[:SIZE])
    assert moment.was_reached
    # As after a commit whose acknowledgement was lost; and the next one comes, too.
    await receive(consumer, facts[:SIZE])
    await receive(consumer, facts[SIZE:])
    await each_is_there_once(database, facts)
    assert [one.missing_count for one in (await actions.reconcile()).progress] == [0]


@asynccontextmanager
async def held_up(server: PostgresServer, fact: Fact[UsageRecorded]) -> AsyncIterator[None]:
    """Whoever copies this event waits in the middle of it, for somebody who has not committed."""
    async with open_database(server.url_of("billing"), connections=1, application="other") as other:
        with pytest.raises(ZeroDivisionError):
            async with SqlWork(other) as work:
                await work.ledger.record([Entry.reported(fact)])
                yield
                raise ZeroDivisionError


async def is_held_up(database: Database) -> None:
    while not await database.fetch(
        "select 1 from pg_stat_activity where application_name = 'worker'"
        " and wait_event_type = 'Lock' and query ilike 'copy %'"
    ):
        await asyncio.sleep(0.02)


async def test_a_server_that_stands_still_in_the_middle_of_a_copy(
    server: PostgresServer, database: Database, worker: Worker
) -> None:
    consumer, _ = worker()
    facts = [a_usage(sequence=n) for n in range(1, SIZE + 1)]
    before = waits()
    async with held_up(server, facts[SIZE // 2]):
        copying = asyncio.create_task(receive(consumer, facts))
        await asyncio.wait_for(is_held_up(database), 30)
        go_on = stand_still(server, backends_only=False)
        await asyncio.sleep(STALL_SECONDS)
        go_on()
    await copying
    assert waits() > before
    await each_is_there_once(database, facts)


async def test_a_worker_that_is_gone_by_the_time_that_the_server_goes_on(
    server: PostgresServer, database: Database, settings: Callable[..., Settings], worker: Worker
) -> None:
    """The backend finishes what it was sent, or finds that nobody is there; another worker has the
    message again meanwhile."""
    facts = [a_usage(sequence=n) for n in range(1, SIZE + 1)]
    async with open_database(server.url_of("billing"), connections=2, application="worker") as gone:
        moment = Moment(server, "before the commit", backends_only=True)
        actions = actions_on(lambda: WatchedWork(gone, moment), settings(), StoppedClock())
        dying = asyncio.create_task(receive(Consumer(listen, actions, gone), facts))
        while not moment.was_reached:
            await asyncio.sleep(0.01)
        dying.cancel()
        await asyncio.wait({dying})
    consumer, _ = worker()
    await receive(consumer, facts)
    await each_is_there_once(database, facts)


async def test_a_statement_that_the_server_cuts_short(
    server: PostgresServer, database: Database, worker: Worker
) -> None:
    consumer, _ = worker()
    facts = [a_usage(sequence=n) for n in range(1, SIZE + 1)]
    # For sessions that begin from now on; the worker has none yet.
    async with open_database(server.url_of("billing"), connections=1, application="other") as other:
        await other.execute("alter database billing set statement_timeout = '2s'")
    before = waits()
    async with held_up(server, facts[SIZE // 2]):
        copying = asyncio.create_task(receive(consumer, facts))
        while waits() < before + 2:
            assert not copying.done()
            await asyncio.sleep(0.1)
    await copying
    await each_is_there_once(database, facts)
