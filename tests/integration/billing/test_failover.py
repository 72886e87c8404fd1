"""A database that crashes under the intake, and a day that comes all over again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from services.billing.actions import Actions
from services.billing.settings import Settings
from services.billing.storage.unit_of_work import SqlWork
from services.billing.tasks import listen
from shared.db.database import Database
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.messaging.consumer import Consumer
from tests.integration.billing.harness import a_message, actions_on, drift, ids_in, take_in
from tests.support.billing import (
    StoppedClock,
    a_usage,
    id_made_at,
)
from tests.support.engines import PostgresServer

BATCHES, SIZE = 30, 100


def crash(server: PostgresServer) -> None:
    """An immediate shutdown: nothing is finished, and the log is replayed at the next start."""
    os.kill(server.child.pid, signal.SIGQUIT)
    server.child.stop()


async def test_a_database_that_crashes_in_the_middle_of_batches_loses_and_doubles_nothing(
    mortal_postgres: PostgresServer,
    mortal_database: Database,
    settings: Callable[..., Settings],
) -> None:
    actions = actions_on(lambda: SqlWork(mortal_database), settings(), StoppedClock())
    consumer = Consumer(listen, actions, mortal_database)
    facts = [a_usage(sequence=n) for n in range(1, BATCHES * SIZE + 1)]
    waiting = [a_message(facts[at : at + SIZE]) for at in range(0, len(facts), SIZE)]

    async def work() -> None:
        while waiting:
            await take_in(consumer, waiting.pop(0))

    workers = [asyncio.create_task(work()) for _ in range(3)]
    while len(waiting) > BATCHES * 2 // 3:
        await asyncio.sleep(0)
    await asyncio.to_thread(crash, mortal_postgres)
    assert waiting, "the crash came too late to be in the middle"
    await asyncio.to_thread(
        mortal_postgres.child.start_again, mortal_postgres.engine.is_ready, seconds=60
    )
    await asyncio.wait_for(asyncio.gather(*workers), 60)
    assert sorted(await ids_in(mortal_database)) == sorted(fact.id for fact in facts)
    assert await drift(mortal_database) == []
    assert await dead(mortal_database) == []
    assert [one.missing_count for one in (await actions.reconcile()).progress] == [0]


def a_day() -> list[Fact[UsageRecorded]]:
    """Usage of each hour of yesterday."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    times = [midnight - timedelta(minutes=7.5 * n) for n in range(1, 193)]
    return [a_usage(at=at, id_=id_made_at(at), sequence=n) for n, at in enumerate(times, 1)]


async def test_a_whole_day_sent_again_adds_nothing(
    consumer: Consumer, actions: Actions, database: Database
) -> None:
    facts = a_day()
    messages = [a_message(facts[at : at + 50]) for at in range(0, len(facts), 50)]
    for message in messages:
        await take_in(consumer, message)
    await actions.link_ledger()
    before = await state(database)
    # In another order, and in batches of another size, as an archive would send it.
    again = [a_message(facts[at : at + 70]) for at in range(0, len(facts), 70)]
    for message in [*again, *reversed(messages)]:
        await take_in(consumer, message)
    assert await actions.link_ledger() == 0
    assert await state(database) == before
    assert len(await ids_in(database)) == len(facts)
    assert await dead(database) == []


async def dead(database: Database) -> list[Any]:
    return await database.fetch("select reason from dead_event")


async def state(database: Database) -> list[Any]:
    """All that usage leaves behind, but for when it was last heard of."""
    tables = ("ledger_entry", "usage_hour", "usage_day", "ledger_link", "ledger_unlinked")
    rows = [await database.fetch(f"select * from {name} order by 1, 2, 3") for name in tables]
    return [[*map(dict, one)] for one in rows] + [
        await database.fetch("select producer, epoch, stream, received from usage_stream")
    ]
