"""How fast usage goes into the ledger: `python -m tests.integration.billing.measure_intake`.

Takes the URL of a server on which it may make a database; prints rows a second for the action alone
and for the whole way of a message (hash, schema, action), per batch size and number of consumers.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg2
import structlog
from pydantic import SecretStr

from services.billing.actions import Actions
from services.billing.settings import Settings
from services.billing.storage.unit_of_work import SqlWork
from services.billing.tasks import listen
from shared.clock import SystemClock
from shared.db.database import Database, open_database
from shared.db.migrations import upgrade
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.messaging import batch as batches
from shared.messaging.consumer import Consumer
from tests.integration.billing.harness import actions_on
from tests.support.billing import EPOCH, a_usage

MODELS = (
    ("openai", "gpt-6-luna"),
    ("openai", "gpt-6.1-sol"),
    ("anthropic", "claude-sonnet-5-5"),
    ("gemini", "gemini-3.8-flash"),
)
Batch = Sequence[Fact[UsageRecorded]]
Take = Callable[[Batch], Awaitable[object]]


def _batches(rows: int, size: int, users: Sequence[UUID]) -> list[list[Fact[UsageRecorded]]]:
    now, tail = datetime.now(UTC), uuid4()
    facts = []
    for number in range(rows):
        provider, model = MODELS[number % len(MODELS)]
        user = users[number % len(users)]
        facts.append(
            a_usage(
                user=user, provider=provider, model=model, at=now, epoch=tail, sequence=number + 1
            )
        )
    return [facts[start : start + size] for start in range(0, rows, size)]


async def _time(take: Take, work: list[list[Fact[UsageRecorded]]], consumers: int) -> float:
    rows = sum(map(len, work))
    waiting = iter(work)

    async def consume() -> None:
        for batch in waiting:
            await take(batch)

    started = time.perf_counter()
    await asyncio.gather(*(consume() for _ in range(consumers)))
    return rows / (time.perf_counter() - started)


async def measure(url: str, rows: int) -> None:
    """Print the table."""
    settings = Settings.model_construct(database_url=SecretStr(url), gap_patience_seconds=15)
    users = [uuid4() for _ in range(1000)]
    async with open_database(url, connections=4, application="measure") as database:
        actions = actions_on(lambda: SqlWork(database), settings, SystemClock())
        await actions.record_usage([a_usage()])  # loads the prices and opens a connection
        for size in (1, 200, 500):
            few = rows // 50 if size == 1 else rows
            for consumers in (1, 2):
                alone = await _time(actions.record_usage, _batches(few, size, users), consumers)
                whole = await _time(
                    _whole_way(actions, database), _batches(few, size, users), consumers
                )
                print(
                    f"batch {size:4}  consumers {consumers}: "
                    f"action {alone:8.0f} rows/s, message {whole:8.0f} rows/s"
                )


def _whole_way(actions: Actions, database: Database) -> Take:
    consumer = Consumer(listen, actions, database)

    async def take(batch: Batch) -> None:
        wire = batches.to_wire("chat", EPOCH, [fact.to_wire() for fact in batch])
        await consumer.receive(UsageRecorded.type, wire)

    return take


def main() -> None:
    """Make a database, measure, drop it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server", help="postgresql://user:password@host:port")
    parser.add_argument("--rows", type=int, default=50_000)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    name = f"measure_{uuid4().hex[:8]}"
    administration = psycopg2.connect(f"{arguments.server}/postgres")
    administration.autocommit = True
    with administration.cursor() as cursor:
        cursor.execute(f"create database {name}")
        try:
            upgrade("billing", f"{arguments.server}/{name}")
            asyncio.run(measure(f"{arguments.server}/{name}", arguments.rows))
        finally:
            cursor.execute(f"drop database {name} with (force)")
    administration.close()


if __name__ == "__main__":
    main()
