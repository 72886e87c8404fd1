"""Who decides about aged usage at the same moment as somebody or something else: nothing is billed
twice, nothing is lost, and nobody is two people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import pytest

from services.billing.domain.aged_usage import AgedGroup
from services.billing.domain.closing import Month
from services.billing.domain.errors import AgedUsageChanged, SecondPersonNeeded
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.settings import Settings
from shared.db.database import Database
from shared.ids import UserId
from tests.integration.billing.harness import actions_on
from tests.integration.billing.test_invoices import ALWAYS, kinds
from tests.support.billing import (
    FixedPrices,
    StoppedClock,
    a_usage,
    id_made_at,
)
from tests.support.billing_invoices import STAFF, Books

AUGUST, SEPTEMBER, OCTOBER = (Month.named(f"2026-{month}") for month in ("08", "09", "10"))
IN_AUGUST, IN_SEPTEMBER = (datetime(2026, month, 10, tzinfo=UTC) for month in (8, 9))
OTHER, THIRD = UserId(uuid4()), UserId(uuid4())
WHY = "Their outbox was found on an old disk."
COST = 205

Verb: TypeAlias = Coroutine[Any, Any, Any]


@pytest.fixture
async def books(
    work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings]
) -> Books:
    """August is invoiced, and everything of pro costs its holder what it costs."""
    actions = actions_on(
        work, settings(aged_usage_days=35), clock, list_prices=FixedPrices(gpt_6_luna=COST)
    )
    books = Books(actions, work)
    await books.fee("pro", 10_000, since=ALWAYS)
    await books.close_and_run(AUGUST)
    return books


async def aged(books: Books, *, events: int = 2) -> AgedGroup:
    """Usage of a user's August that comes now."""
    user = uuid4()
    for _ in range(events):
        await books.use(user, at=IN_AUGUST, tier="pro")
    return await group_of(books, user)


async def group_of(books: Books, user: UUID) -> AgedGroup:
    [group] = [
        usage.group
        for usage in await books.actions.list_aged_usage()
        if usage.group.user_id == user
    ]
    return group


def approve(books: Books, group: AgedGroup, by: UserId) -> Verb:
    return books.actions.approve_aged_usage(group, by=by, reason=WHY)


def refuse(books: Books, group: AgedGroup, by: UserId) -> Verb:
    return books.actions.refuse_aged_usage(group, by=by, reason=WHY)


@asynccontextmanager
async def deciding(books: Books, group: AgedGroup) -> AsyncIterator[UnitOfWork]:
    """Somebody's decision, on its way until the block ends."""
    async with books.work() as work:
        assert await work.aged.hold(group, after=None) is not None
        yield work


async def waiting(database: Database, *verbs: Verb, beside: int = 0) -> list[asyncio.Task[Any]]:
    """They have begun, and wait for who decides already; `beside` others do, too."""
    tasks = [asyncio.create_task(verb) for verb in verbs]
    while await sessions_waiting(database) < len(tasks) + beside:
        assert not any(task.done() for task in tasks), tasks
        await asyncio.sleep(0.02)
    return tasks


async def sessions_waiting(database: Database) -> int:
    row = await database.fetchrow(
        "select count(*) as found from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    assert row is not None
    return int(row["found"])


async def outcomes(*verbs: Awaitable[Any]) -> list[Any]:
    """What each answered, or the kind of failure."""
    found = await asyncio.gather(*verbs, return_exceptions=True)
    return [type(one) if isinstance(one, Exception) else one for one in found]


async def invoiced(books: Books, user: UUID) -> list[tuple[str, int]]:
    lines = [line for invoice in await books.invoices_of(user) for line in kinds(invoice)]
    for invoice in await books.invoices_of(user):
        assert (await books.actions.verify_invoice(invoice.id)).is_sound
    return sorted(line for line in lines if line[0] in ("late_usage", "correction"))


async def releases(database: Database, group: AgedGroup) -> set[tuple[UUID | None, UUID | None]]:
    rows = await database.fetch(
        "select approved_by, released_by from aged_usage join ledger_entry using (event_id)"
        " where user_id = $1",
        group.user_id,
    )
    return {(row["approved_by"], row["released_by"]) for row in rows}


async def test_one_person_who_asks_many_times_at_once_is_one_person(
    books: Books, database: Database
) -> None:
    group = await aged(books)
    found = await outcomes(*(approve(books, group, STAFF) for _ in range(6)))
    assert sorted(found, key=str) == [SecondPersonNeeded] * 5 + [False]
    assert await releases(database, group) == {(STAFF, None)}
    await books.close_and_run(SEPTEMBER)
    assert await invoiced(books, group.user_id) == []


async def test_two_people_who_ask_at_once_are_two(books: Books, database: Database) -> None:
    group = await aged(books)
    found = await outcomes(approve(books, group, STAFF), approve(books, group, OTHER))
    assert sorted(found) == [False, True]
    assert await releases(database, group) <= {(STAFF, OTHER), (OTHER, STAFF)}
    await books.close_and_run(SEPTEMBER)
    assert await invoiced(books, group.user_id) == [("late_usage", 2 * COST)]


async def test_of_several_second_people_one_releases_it_and_stays_written_down(
    books: Books, database: Database
) -> None:
    group = await aged(books)
    await approve(books, group, STAFF)
    async with deciding(books, group) as work:
        later = await waiting(database, approve(books, group, THIRD), refuse(books, group, THIRD))
        held = await work.aged.hold(group, after=None)
        assert held is not None
        at = datetime(2026, 10, 1, tzinfo=UTC)
        await work.aged.release(held.events, by=OTHER, at=at, reason=WHY)
    assert await outcomes(*later) == [AgedUsageChanged, AgedUsageChanged]
    assert await releases(database, group) == {(STAFF, OTHER)}
    await books.close_and_run(SEPTEMBER)
    assert await invoiced(books, group.user_id) == [("late_usage", 2 * COST)]


@pytest.mark.parametrize("first", ["approve", "refuse"])
async def test_an_approval_beside_a_refusal_leaves_one_of_them(
    books: Books, database: Database, first: str
) -> None:
    group = await aged(books)
    await approve(books, group, STAFF)
    verbs = [approve(books, group, OTHER), refuse(books, group, THIRD)]
    if first == "refuse":
        verbs.reverse()
    async with deciding(books, group):
        winner = await waiting(database, verbs[0])
        loser = await waiting(database, verbs[1], beside=1)
    found = await outcomes(*winner, *loser)
    assert found == [True if first == "approve" else (2, 0), AgedUsageChanged]
    for month in (SEPTEMBER, OCTOBER):
        await books.close_and_run(month)
    billed = [("late_usage", 2 * COST)] if first == "approve" else []
    assert await invoiced(books, group.user_id) == billed


async def test_refusals_at_once_void_each_event_once(books: Books, database: Database) -> None:
    group = await aged(books)
    found = await outcomes(*(refuse(books, group, by) for by in (STAFF, STAFF, OTHER)))
    assert sorted(found, key=str) == sorted([(2, 0), AgedUsageChanged, AgedUsageChanged], key=str)
    rows = await database.fetch("select event_id from ledger_correction")
    assert len(rows) == len({row["event_id"] for row in rows}) == 2


async def test_what_is_released_while_a_run_is_on_its_way_comes_with_its_corrections(
    books: Books, database: Database
) -> None:
    """Or an invoice would give back what none has asked for yet."""
    user = uuid4()
    await books.adjust(await books.use(user, at=IN_AUGUST, tier="pro"), -5)
    await books.use(user, at=IN_SEPTEMBER, tier="pro")
    group = await group_of(books, user)
    await books.close(SEPTEMBER)
    async with database.connection() as connection, connection.transaction():
        # A run has its list by then, and waits with its first page.
        await connection.execute("lock table invoice_item in share mode")
        [run] = await waiting(database, books.run(SEPTEMBER))
        assert not await approve(books, group, STAFF)
        assert await approve(books, group, OTHER)
    await run
    assert await invoiced(books, user) == []
    await books.close_and_run(OCTOBER)
    assert await invoiced(books, user) == [("correction", -5), ("late_usage", COST)]


async def test_approvals_beside_the_close_and_a_run_bill_each_event_once(
    books: Books, database: Database
) -> None:
    groups = [await aged(books, events=3) for _ in range(8)]
    found = await outcomes(
        *(approve(books, group, STAFF) for group in groups),
        *(approve(books, group, OTHER) for group in groups[:6]),
        books.close_and_run(SEPTEMBER),
    )
    assert set(found[:-1]) == {True, False}
    assert found.count(True) == 6
    await books.close_and_run(OCTOBER)
    for group in groups[:6]:
        assert await invoiced(books, group.user_id) == [("late_usage", 3 * COST)]
    for group in groups[6:]:
        assert await releases(database, group) == {(STAFF, None)}
        assert await invoiced(books, group.user_id) == []


async def test_the_same_events_again_are_no_new_usage(books: Books, database: Database) -> None:
    user = uuid4()
    usage = [
        a_usage(user=user, at=IN_AUGUST, id_=id_made_at(IN_AUGUST), tier="pro") for _ in range(5)
    ]
    assert await books.actions.record_usage(usage) == 5
    group = await group_of(books, user)
    found = await outcomes(
        approve(books, group, STAFF),
        *(books.actions.record_usage(usage) for _ in range(3)),
        approve(books, group, OTHER),
        books.close_and_run(SEPTEMBER),
        *(books.actions.record_usage(usage) for _ in range(3)),
    )
    assert found[1:4] + found[6:] == [0] * 6
    assert sorted([found[0], found[4]]) == [False, True]
    assert await books.actions.record_usage(usage) == 0
    assert await books.actions.list_aged_usage() == []
    await books.close_and_run(OCTOBER)
    assert await invoiced(books, user) == [("late_usage", 5 * COST)]
