"""The audit trail on the real database: nothing is lost, nothing is changed unseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import psycopg2
import pytest

from services.auth.actions.link_audit_events import LinkAuditEvents
from services.auth.actions.verify_audit import AuditVerdict, VerifyAudit
from services.auth.actions.watch_audit import WatchAudit
from services.auth.domain.audit import AuditEntry
from services.auth.domain.audit_chain import ChainedEvent, Head
from services.auth.domain.origin import NOWHERE, Origin
from services.auth.storage.unit_of_work import News, SqlWork
from shared.clock import SystemClock
from shared.db.database import Database, open_database
from shared.db.migrations import upgrade
from shared.ids import UserId, uuid7
from tests.support.auth import NOON, HeldKeys, StoppedClock, some_signing_keys
from tests.support.engines import PostgresServer

KEYS = HeldKeys(some_signing_keys())
HERE = Origin("a browser", "192.0.2.7")
ADA = UserId(uuid7())


@dataclass(frozen=True, slots=True)
class Trail:
    """A trail of its own, and the superuser who gets around every trigger."""

    database: Database
    url: str
    superuser_url: str
    work: Callable[[], SqlWork]

    async def note(self, *entries: AuditEntry) -> None:
        async with self.work() as work:
            for entry in entries:
                await work.audit.note(entry)

    async def link(self) -> None:
        await LinkAuditEvents(self.work, KEYS)()

    async def verdict(self, head: Head | None = None) -> AuditVerdict:
        return await VerifyAudit(self.work, KEYS)(head)

    async def broken(self, head: Head | None = None) -> str:
        verdict = await self.verdict(head)
        assert verdict.broken is not None
        return verdict.broken

    async def links(self) -> list[Any]:
        return await self.database.fetch("select * from audit_link order by sequence")

    @contextmanager
    def behind_our_back(self) -> Iterator[Any]:
        connection = psycopg2.connect(self.superuser_url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("set session_replication_role = replica")
                yield cursor
        finally:
            connection.close()


@pytest.fixture
async def trail(postgres_server: PostgresServer, news: News) -> AsyncIterator[Trail]:
    template = postgres_server.ensure_template("auth_audit", lambda url: upgrade("auth", url))
    with postgres_server.fresh_database(template=template) as url:
        async with open_database(url, connections=10, application="tests") as database:
            superuser = f"{postgres_server.engine.superuser_url}/{url.rpartition('/')[2]}"
            yield Trail(database, url, superuser, partial(SqlWork, database, news, KEYS))


def an_entry(number: int = 0, **parts: Any) -> AuditEntry:
    entry = AuditEntry.of_user("thing.done", ADA, NOON, HERE, number=number, words=["ä", "\x01"])
    return replace(entry, **parts)


async def filled(trail: Trail, events: int = 5) -> Head:
    """A linked trail; answers its head."""
    await trail.note(*(an_entry(number) for number in range(events)))
    await trail.link()
    verdict = await trail.verdict()
    assert (verdict.broken, verdict.events, verdict.waiting) == (None, events, 0)
    assert verdict.head.sequence == events
    return verdict.head


async def test_an_entry_comes_back_as_it_went(trail: Trail) -> None:
    entries = [
        an_entry(organisation_id=uuid7()),
        an_entry(actor_id=None),
        an_entry(origin=NOWHERE, facts={}),
    ]
    await trail.note(*entries, an_entry(user_id=UserId(uuid7())))
    async with trail.work() as work:
        assert await work.audit.of_user(ADA, before=None, most=5) == entries[::-1]
        assert await work.audit.of_user(ADA, before=entries[1].id, most=5) == entries[:1]
        organisation = entries[0].organisation_id
        assert organisation is not None
        found = await work.audit.of_organisation(organisation, before=None, most=5)
        assert found == entries[:1]
        assert len(await work.audit.of_everybody(since=NOON, most=9)) == 4
        later = NOON + timedelta(seconds=1)
        assert await work.audit.of_everybody(since=later, most=9) == []


@pytest.mark.parametrize("by", ["service", "superuser"])
async def test_nobody_changes_the_trail(trail: Trail, by: str) -> None:
    await filled(trail, 1)
    statements = [
        "update audit_event set action = 'x'",
        "update audit_link set mac = 'x'",
        *(
            statement.format(table)
            for table in ("audit_event", "audit_link")
            for statement in ("delete from {}", "delete from {} where false", "truncate {} cascade")
        ),
        "insert into audit_link select * from audit_link on conflict (sequence) do update "
        "set mac = 'x'",
    ]
    connection = await asyncpg.connect(trail.superuser_url if by == "superuser" else trail.url)
    try:
        for statement in statements:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="never changed"):
                await connection.execute(statement)
    finally:
        await connection.close()
    assert (await trail.verdict()).broken is None


async def test_origins_can_be_forgotten_and_the_chain_still_fits(trail: Trail) -> None:
    grace = UserId(uuid7())
    await trail.note(
        an_entry(),
        an_entry(actor_id=None),
        an_entry(user_id=grace, actor_id=ADA),
        an_entry(user_id=ADA, actor_id=grace),
    )
    await trail.link()
    async with trail.work() as work:
        # What says something about ada: her own acts, and what strangers did at her door.
        assert await work.audit.erase_origins_of(ADA, most=10) == 3
    rows = await trail.database.fetch("select user_id from audit_origin")
    assert [row["user_id"] for row in rows] == [grace]
    assert (await trail.verdict()).broken is None


async def test_an_event_that_commits_late_is_linked_late_and_not_forgotten(trail: Trail) -> None:
    early, late = an_entry(1), an_entry(2)
    assert early.id < late.id
    async with trail.work() as slow:
        await slow.audit.note(early)
        await trail.note(late)
        await trail.link()
        assert [link["event_id"] for link in await trail.links()] == [late.id]
        state = await WatchAudit(trail.work, SystemClock())()
        assert (state.length, state.waiting, state.longest_wait_seconds) == (1, 0, 0.0)
    await trail.link()
    assert [link["event_id"] for link in await trail.links()] == [late.id, early.id]
    assert (await trail.verdict()).broken is None


async def test_many_who_note_and_many_who_link_at_once_make_one_chain(trail: Trail) -> None:
    async def act(number: int) -> None:
        for _ in range(5):
            await trail.note(an_entry(number))

    await asyncio.gather(*(act(number) for number in range(8)), *(trail.link() for _ in range(8)))
    await trail.link()
    links = await trail.links()
    assert [link["sequence"] for link in links] == list(range(1, 41))
    assert len({link["event_id"] for link in links}) == 40
    verdict = await trail.verdict()
    assert (verdict.broken, verdict.events, verdict.waiting) == (None, 40, 0)


async def test_what_is_undone_leaves_nothing_to_link(trail: Trail) -> None:
    with pytest.raises(RuntimeError):
        async with trail.work() as work:
            await work.audit.note(an_entry())
            raise RuntimeError
    await trail.link()
    assert (await trail.verdict()).events == 0


async def test_what_waits_is_told_and_is_no_flaw(trail: Trail) -> None:
    await trail.note(an_entry(), an_entry())
    verdict = await trail.verdict()
    assert (verdict.broken, verdict.events, verdict.waiting) == (None, 2, 2)
    later = StoppedClock(datetime.now(UTC) + timedelta(seconds=90))
    state = await WatchAudit(trail.work, later)()
    assert state.waiting == 2
    assert 89 < state.longest_wait_seconds < 120


async def test_rows_brought_back_under_the_triggers_are_not_linked_twice(trail: Trail) -> None:
    await filled(trail, 2)
    await trail.database.execute("insert into audit_unlinked (event_id) select id from audit_event")
    await trail.note(an_entry())
    await trail.link()
    verdict = await trail.verdict()
    assert (verdict.broken, verdict.head.sequence, verdict.waiting) == (None, 3, 0)


@pytest.mark.parametrize(
    "facts",
    [
        '{"n": 1e400}',
        '{"n": 123456789012345678901234567890}',
        '{"n": ' + "[" * 900 + "]" * 900 + "}",
    ],
)
async def test_no_event_holds_the_chain_up(trail: Trail, facts: str) -> None:
    connection = await asyncpg.connect(trail.url)
    try:
        await connection.execute(_RAW, uuid7(), NOON, "a.b", facts)
        for at, action in ((NOON, ""), (datetime(1999, 1, 1, tzinfo=UTC), "a.b")):
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute(_RAW, uuid7(), at, action, facts)
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(
                "insert into audit_event values ($1, 'infinity', 'a', null, null, null, '{}')",
                uuid7(),
            )
    finally:
        await connection.close()
    await trail.link()
    verdict = await trail.verdict()
    assert (verdict.broken, verdict.head.sequence) == (None, 1)


_RAW = "insert into audit_event (id, at, action, facts) values ($1, $2, $3, $4::text::jsonb)"


async def test_a_changed_fact_is_found(trail: Trail) -> None:
    await filled(trail)
    with trail.behind_our_back() as cursor:
        cursor.execute(
            "update audit_event set facts = facts || '{\"number\": 9}' where facts @> "
            "'{\"number\": 2}'"
        )
        assert cursor.rowcount == 1
    assert (await trail.broken()).startswith("Link 3 does not fit its event")


async def test_a_deleted_event_is_found(trail: Trail) -> None:
    await filled(trail)
    with trail.behind_our_back() as cursor:
        cursor.execute(
            "delete from audit_event where id = (select event_id from audit_link where sequence=2)"
        )
    assert (await trail.broken()).endswith("of link 2 is missing.")


async def test_an_event_deleted_with_its_link_is_found(trail: Trail) -> None:
    await filled(trail)
    with trail.behind_our_back() as cursor:
        cursor.execute("delete from audit_link where sequence = 2 returning event_id")
        cursor.execute("delete from audit_event where id = %s", cursor.fetchone())
    assert await trail.broken() == "Link 2 is missing: the next one is 3."


async def test_two_swapped_events_are_found(trail: Trail) -> None:
    await filled(trail)
    with trail.behind_our_back() as cursor:
        cursor.execute("select event_id from audit_link where sequence in (2, 4) order by 1")
        second, fourth = (row[0] for row in cursor.fetchall())
        cursor.execute("alter table audit_link drop constraint uq_audit_link_event_id")
        cursor.execute(
            "update audit_link set event_id = case sequence when 2 then %s else %s end::uuid "
            "where sequence in (2, 4)",
            (fourth, second),
        )
    assert await trail.broken() == f"The order was changed: event {second} belongs to link 2."


async def test_a_cut_tail_is_found_by_the_head_that_was_kept(trail: Trail) -> None:
    head = await filled(trail)
    with trail.behind_our_back() as cursor:
        cursor.execute("delete from audit_link where sequence > 3 returning event_id")
        cursor.executemany("delete from audit_event where id = %s", cursor.fetchall())
    # By itself a shorter chain is as good as any.
    assert (await trail.verdict()).broken is None
    assert (await trail.broken(head)).startswith("The end is cut off")
    await trail.note(*(an_entry(number) for number in range(4)))
    await trail.link()
    assert (await trail.verdict()).broken is None
    assert (await trail.broken(head)).startswith("Link 5 is another one")


async def test_links_cut_off_alone_leave_events_that_were_linked(trail: Trail) -> None:
    await filled(trail)
    with trail.behind_our_back() as cursor:
        cursor.execute("delete from audit_link where sequence > 3")
    assert "has no link and does not wait for one" in await trail.broken()


async def test_an_event_slipped_in_past_the_chain_is_found(trail: Trail) -> None:
    await filled(trail)
    slipped = uuid7()
    with trail.behind_our_back() as cursor:
        cursor.execute(
            "insert into audit_event (id, at, action, facts) values (%s, now(), 'a.b', '{}')",
            (str(slipped),),
        )
    assert await trail.broken() == f"Event {slipped} has no link and does not wait for one."


async def test_a_link_forged_without_the_key_is_found(trail: Trail) -> None:
    head = await filled(trail)
    forged = ChainedEvent(uuid7(), NOON, "sign_in.begun", ADA, ADA, None, "{}")
    mac = forged.mac(head.mac, bytes(32))
    with trail.behind_our_back() as cursor:
        cursor.execute(
            "insert into audit_event values (%s, %s, %s, %s, %s, null, '{}')",
            (str(forged.id), NOON, forged.action, str(ADA), str(ADA)),
        )
        cursor.execute(
            "insert into audit_link values (%s, %s, 1, %s)",
            (head.sequence + 1, str(forged.id), psycopg2.Binary(mac)),
        )
    broken = await trail.broken()
    assert broken.startswith("Link 6 does not fit its event")
    assert "made without the key" in broken


async def test_a_long_trail_is_verified_and_linked_in_bounded_steps(trail: Trail) -> None:
    await trail.database.execute(
        "insert into audit_event (id, at, action, facts) "
        "select gen_random_uuid(), now(), 'thing.done', '{}' from generate_series(1, 2300)"
    )
    await trail.link()
    verdict = await trail.verdict()
    assert (verdict.broken, verdict.head.sequence, verdict.events) == (None, 2300, 2300)
