"""Old events are forgotten, each kind in its time; young ones stay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from shared.db import archive
from shared.db.database import Database, open_database
from shared.errors import DependencyUnavailable
from shared.messaging import upkeep
from shared.messaging.upkeep import forget
from shared.settings import service_database_url


@pytest.fixture
async def database(migrated: Callable[[str], str]) -> AsyncIterator[Database]:
    url = service_database_url(migrated("voice"), "voice")
    async with open_database(url, connections=2, application="test") as opened:
        yield opened


async def sent(
    database: Database, stream: str, *, days_ago: float, hour: str | None = None
) -> None:
    await database.execute(
        """
        insert into outbox_sent (stream, sequence, event_id, envelope, created_at, sent_at)
        values ($1, (random() * 1e15)::bigint, $2, $4, now(), now() - $3::interval)
        """,
        stream,
        uuid4(),
        timedelta(days=days_ago),
        {"data": {"hour": hour}},
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
    await sent(database, "usage.manifest.team", days_ago=2)
    await sent(database, "usage.manifest.team", days_ago=0, hour="2026-11-29T10:00:00Z")

    await forget(database)

    rows = await database.fetch("select stream from outbox_sent order by stream")
    assert [row["stream"] for row in rows] == [
        "key.revoked.free",
        "usage.manifest.pro",
        "usage.manifest.pro",  # after a standstill, until its hours were told
        "usage.manifest.team",
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


async def test_dead_events_go_some_time_after_they_were_sent_again(database: Database) -> None:
    for task, days in (("old", 36), ("young", 34), ("waits", None)):
        await database.execute(
            "insert into dead_event (task, reason, body, stored_at, replayed_at) values"
            " ($1, 'handler_failed', '{}', now() - interval '90 days', now() - $2::interval)",
            task,
            None if days is None else timedelta(days=days),
        )

    await forget(database)

    rows = await database.fetch("select task from dead_event order by id")
    assert [row["task"] for row in rows] == ["young", "waits"]


async def test_whatever_is_past_its_time_goes_however_much_it_is(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_AT_ONCE", 2)
    await database.execute("delete from outbox_sent")
    for _ in range(5):
        await sent(database, "usage.recorded.free", days_ago=91)
        await database.execute("insert into inbox values ($1, now() - interval '36 days')", uuid4())

    await forget(database)

    left = await database.fetchrow(
        "select (select count(*) from outbox_sent) + (select count(*) from inbox"
        " where handled_at < now() - interval '35 days') as n"
    )
    assert left is not None and left["n"] == 0


async def test_what_cannot_be_forgotten_holds_up_nothing_else(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.execute("delete from outbox_sent")
    for stream in ("key.revoked.free", "key.revoked.pro", "key.revoked.team"):
        await sent(database, stream, days_ago=36)
    forget_sent = archive.forget_sent

    async def fails_for_one(database: Database, stream: str, keep: timedelta, *, most: int) -> int:
        if stream.endswith(".pro"):
            raise DependencyUnavailable("database")
        return await forget_sent(database, stream, keep, most=most)

    monkeypatch.setattr(archive, "forget_sent", fails_for_one)
    with pytest.raises(DependencyUnavailable):
        await forget(database)

    rows = await database.fetch("select stream from outbox_sent")
    assert [row["stream"] for row in rows] == ["key.revoked.pro"]


# A service's own statements are planned for all values alike, after some runs.
@pytest.mark.parametrize("planned", ["force_custom_plan", "force_generic_plan"])
async def test_to_forget_a_little_reads_nothing_else(
    migrated: Callable[[str], str], planned: str
) -> None:
    kept = {"key.revoked.pro": 35, "usage.manifest.pro": 1}
    kept |= {f"usage.recorded.{tier}": 90 for tier in ("free", "pro")}
    url = service_database_url(migrated("voice"), "voice")
    async with open_database(url, connections=1, application="test") as database:
        await database.execute("delete from outbox_sent")
        for stream, days in kept.items():
            events = 3000 if days == 90 else 600
            await sent_evenly(database, stream, events, oldest=timedelta(days=days - 0.1))
        await sent(database, "usage.manifest.pro", days_ago=2)
        await database.execute("analyze outbox_sent")
        await database.execute(f"set plan_cache_mode = {planned}")

        before = await rows_read(database)
        streams = await archive.sent_streams(database)
        assert set(streams) == set(kept)
        gone = [
            await archive.forget_sent(database, stream, timedelta(days=kept[stream]), most=5000)
            for stream in streams
        ]
        assert sorted(gone) == [0, 0, 0, 1]
        assert await rows_read(database) - before < 20


async def sent_evenly(database: Database, stream: str, events: int, *, oldest: timedelta) -> None:
    await database.execute(
        "insert into outbox_sent (stream, sequence, event_id, envelope, created_at, sent_at)"
        " select $1, n, gen_random_uuid(), '{}', at, at from generate_series(1, $2) n,"
        " lateral (select now() - $3::interval * ($2 - n + 1) / $2) s (at)",
        stream,
        events,
        oldest,
    )


async def rows_read(database: Database) -> int:
    """From the archive so far, along any index or none."""
    await database.execute("select pg_stat_force_next_flush()")
    row = await database.fetchrow(
        "select seq_tup_read + (select sum(idx_tup_read) from pg_stat_user_indexes i"
        " where i.relid = t.relid) as read from pg_stat_user_tables t where relname = 'outbox_sent'"
    )
    assert row
    return int(row["read"])
