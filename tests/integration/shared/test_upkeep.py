"""Old events are forgotten, each kind in its time; young ones stay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from shared.db.database import Database, open_database
from shared.messaging.upkeep import forget
from shared.settings import service_database_url


@pytest.fixture
async def database(migrated: Callable[[str], str]) -> AsyncIterator[Database]:
    url = service_database_url(migrated("voice"), "voice")
    async with open_database(url, connections=2, application="test") as opened:
        yield opened


async def sent(database: Database, stream: str, *, days_ago: float) -> None:
    await database.execute(
        """
        insert into outbox_sent (stream, sequence, event_id, envelope, created_at, sent_at)
        values ($1, (random() * 1e15)::bigint, $2, '{}', now(), now() - $3::interval)
        """,
        stream,
        uuid4(),
        timedelta(days=days_ago),
    )


async def test_each_kind_of_event_is_kept_for_its_time(database: Database) -> None:
    await database.execute("delete from outbox_sent")
    for stream, young, old in (
        ("usage.recorded.free", 89, 91),
        ("usage.manifest.pro", 0.5, 2),
        ("key.revoked.free", 34, 36),
    ):
        await sent(database, stream, days_ago=young)
        await sent(database, stream, days_ago=old)

    await forget(database)

    rows = await database.fetch("select stream from outbox_sent order by stream")
    assert [row["stream"] for row in rows] == [
        "key.revoked.free",
        "usage.manifest.pro",
        "usage.recorded.free",
    ]


async def test_handled_ids_are_forgotten_after_a_while(database: Database) -> None:
    old, young = uuid4(), uuid4()
    for id_, days in ((old, 36), (young, 34)):
        await database.execute(
            "insert into inbox values ($1, now() - $2::interval)", id_, timedelta(days=days)
        )

    await forget(database)

    rows = await database.fetch("select event_id from inbox")
    assert {old, young} & {row["event_id"] for row in rows} == {young}
