"""A producer's half of completeness: what it tells of its hours, and what it sends again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from shared.db import archive, outbox
from shared.db.database import Database, open_database
from shared.db.engine import sync_engine
from shared.db.unit_of_work import INSERT_OUTBOX, outbox_columns
from shared.events import Event, Fact
from shared.events.usage import UsageReplayRequested
from shared.events.user import UserRegistered
from shared.ids import uuid7
from shared.messaging import batch as batches
from shared.messaging.consumer import Consumer
from shared.messaging.replay import install_replay
from shared.messaging.subscriptions import Listen
from tests.support.engines import PostgresServer
from tests.support.event_service.world import a_usage

FREE, REGISTERED = "usage.recorded.free", "user.registered.free"


@pytest.fixture
def url(postgres_server: PostgresServer, tables: str) -> Iterator[str]:
    with postgres_server.fresh_database(template=tables) as url:
        yield url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with open_database(url, connections=2, application="herald") as database:
        yield database


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = sync_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def herald() -> Listen:
    listen = Listen("herald")
    install_replay(listen)
    return listen


async def written(database: Database, *events: Event, at: datetime | None = None) -> None:
    """They happened and wait to be sent."""
    at = at or datetime.now(UTC)
    facts = [Fact(event=event, subject=uuid4(), tier="free", time=at) for event in events]
    await database.execute(INSERT_OUTBOX, *outbox_columns(facts))


def send(engine: Engine, stream: str, *, most: int = 200) -> UUID:
    """Takes a batch to the broker; answers the stream's epoch."""
    batch = outbox.claim(engine, stream, most=most, lease=timedelta(seconds=30))
    assert batch is not None
    outbox.mark_sent(engine, batch)
    return batch.epoch


async def told(database: Database, herald: Listen, job: str) -> list[dict[str, Any]]:
    """What a job tells when it runs now, with the queue that it goes by."""
    await database.execute("delete from outbox where stream like 'usage.manifest.%'")
    await herald.jobs[f"herald.jobs.{job}"].run(database)
    rows = await database.fetch(
        "select stream, envelope from outbox where stream like 'usage.manifest.%'"
    )
    return [row["envelope"]["data"] | {"by": row["stream"]} for row in rows]


def whole_hour(hours_ago: int) -> datetime:
    now = datetime.now(UTC)
    return now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours_ago)


# The second lies beyond the hours that are told of anyway.
@pytest.mark.parametrize("hours_ago", [2, 30])
async def test_what_is_still_on_its_way_counts_in_its_hour(
    database: Database, engine: Engine, herald: Listen, hours_ago: int
) -> None:
    hour = whole_hour(hours_ago)
    await written(database, *[a_usage() for _ in range(3)], at=hour + timedelta(minutes=5))
    send(engine, FREE, most=1)
    await database.execute("update outbox_sent set sent_at = $1", hour + timedelta(minutes=6))
    sums = {
        datetime.fromisoformat(one["hour"]): one["sums"]
        for one in await told(database, herald, "announce_closed_hours")
    }
    assert (sums[hour]["events"], sums[hour]["input_tokens"]) == (3, 9)


async def test_what_has_no_number_yet_is_told_of_later(database: Database, herald: Listen) -> None:
    """Before the first event of a stream is sent, the stream has no name to tell it by."""
    await written(database, a_usage(), at=whole_hour(2))
    assert await told(database, herald, "announce_closed_hours") == []


async def test_the_last_of_a_tier_that_is_no_more_is_told_by_the_default_ones_queue(
    database: Database, herald: Listen
) -> None:
    await archive.begin_stream(database, "usage.recorded.platinum")
    manifests = await told(database, herald, "announce_usage")
    assert {one["stream"]: one["by"] for one in manifests} == {
        FREE: "usage.manifest.free",
        "usage.recorded.platinum": "usage.manifest.free",
    }


async def ask(database: Database, herald: Listen, stream: str, epoch: UUID, producer: str) -> int:
    """Misses the second and the third of a stream; answers how many come again."""
    asked = UsageReplayRequested(
        producer=producer, stream=stream, epoch=epoch, first_sequence=2, last_sequence=3
    )
    fact = Fact(event=asked, subject=UUID(int=0), tier="free", source="billing")
    wire = batches.to_wire("billing", uuid7(), [{"producerseq": 1, **fact.to_wire()}])
    await Consumer(herald, None, database).receive(UsageReplayRequested.type, wire)
    row = await database.fetchrow("select count(*) as n from outbox where stream = $1", stream)
    return int(row["n"]) if row else 0


async def test_only_its_own_usage_is_sent_again(
    database: Database, engine: Engine, herald: Listen
) -> None:
    await written(database, *[a_usage() for _ in range(4)])
    await written(database, *[UserRegistered(user_id=uuid4()) for _ in range(4)])
    epoch, other = send(engine, FREE), send(engine, REGISTERED)
    assert await ask(database, herald, FREE, epoch, "another") == 0
    assert await ask(database, herald, REGISTERED, other, "herald") == 0
    assert await ask(database, herald, FREE, epoch, "herald") == 2
