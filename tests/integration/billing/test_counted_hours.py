"""Hours follow when entries get their links: whoever rates, corrects or checks meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from alembic import command

from services.billing.actions import Actions
from services.billing.actions.link_ledger import LinkLedger
from services.billing.actions.report_usage import ReportUsage
from services.billing.domain.closing import Month
from services.billing.domain.correction import Deltas
from services.billing.domain.ledger import Rating
from services.billing.domain.ledger_ports import MarkedBatch, Waiting
from services.billing.domain.ports import NewUnitOfWork
from services.billing.settings import Settings
from services.billing.storage.ledger_chain import SqlLedgerChain
from services.billing.storage.unit_of_work import SqlWork
from shared.db.database import Connection, Database, open_database
from shared.db.migrations import alembic_config
from shared.errors import DependencyUnavailable
from shared.events import Fact
from shared.events.usage import UsageVoided
from shared.ids import UserId
from shared.money import MicroDollars
from tests.integration.billing.harness import actions_on, drift
from tests.integration.billing.test_copied_usage import columns, some_usage
from tests.support.billing import NOON, StoppedClock, a_speech, a_usage
from tests.support.engines import PostgresServer

STAFF = UserId(uuid4())
_SPEECH = ("elevenlabs", "eleven_flash_v2_5")
_FIRM = UUID("019a0000-0000-4000-8000-0000000000f1")


async def rate_a_page(work: NewUnitOfWork) -> int:
    """Some of what has no price, counted or not."""
    async with work() as unit:
        page = await unit.unpriced.page(_SPEECH, since=None, most=7)
        rated = [replace(one, rating=Rating(MicroDollars(11), "test")) for one in page]
        await unit.unpriced.rate(rated)
    return len(rated)


async def sums_of_both(database: Database) -> list[object]:
    row = await database.fetchrow(
        "select sum(requests), sum(unpriced_requests), sum(input_tokens), sum(cost_microusd)"
        " from usage_day"
    )
    other = await database.fetchrow(
        "select sum(requests), sum(unpriced_requests), sum(input_tokens), sum(cost_microusd)"
        " from usage_hour"
    )
    assert row is not None
    assert other is not None
    return [tuple(row), tuple(other)]


async def test_all_at_once_on_the_same_hours_end_with_the_right_sums(
    actions: Actions, work: NewUnitOfWork, database: Database, clock: StoppedClock
) -> None:
    chance = random.Random(11)
    usage = some_usage(400)
    batches = [usage[start : start + 25] for start in range(0, 400, 25)]
    free = Deltas(cost_microusd=-1)

    async def take_in_and_correct(number: int) -> None:
        batch = batches[number]
        if number % 2:
            await actions.record_usage.together(columns(batch))
        else:
            await actions.record_usage(batch)
        for fact in batch[:: chance.randrange(5, 9)]:
            deltas = free if fact.event.provider == "openai" else None
            await actions.correct_usage(fact.id, deltas, reason="test", by=STAFF)

    async def again(what: str) -> None:
        for _ in range(20):
            await (actions.link_ledger() if what == "link" else rate_a_page(work))
            await asyncio.sleep(chance.random() / 100)

    tasks: list[Awaitable[None]] = [take_in_and_correct(number) for number in range(len(batches))]
    await asyncio.gather(*tasks, *(again(what) for what in ("link", "link", "rate", "rate")))
    while await rate_a_page(work):
        pass
    await actions.link_ledger()
    assert await actions.link_ledger() == 0
    clock.forward(timedelta(days=2))
    check = await actions.check_rollups()
    assert check.compared > 0
    assert check.drifts == 0
    days, hours = await sums_of_both(database)
    assert days == hours
    assert [one.broken for one in await actions.verify_ledger() if one.broken] == []
    assert not await waits_in_a_circle(database)


async def test_the_sums_are_worked_out_each_night_also_after_a_clock_was_ahead(
    actions: Actions, clock: StoppedClock
) -> None:
    nightly = actions.check_rollups.nightly
    clock.forward(timedelta(days=30))
    assert await nightly() is not None
    clock.forward(-timedelta(days=30))
    assert [await nightly() is not None for _ in range(3)] == [True, False, False]
    clock.forward(timedelta(days=1))
    assert [await nightly() is not None for _ in range(2)] == [True, False]


async def test_an_hour_that_lacks_what_waits_is_no_drift_and_another_one_is(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    ada, ben = uuid4(), uuid4()
    await actions.record_usage([a_usage(user=user, at=NOON) for user in (ada, ben)])
    await actions.link_ledger()
    await actions.record_usage([a_usage(user=ada, at=NOON)])
    clock.forward(timedelta(days=2))
    assert (await actions.check_rollups()).drifts == 0
    await database.execute("update usage_hour set requests = 5 where user_id = $1", ben)
    # His hour, and the day that was made of it.
    assert (await actions.check_rollups()).drifts == 2
    await actions.link_ledger()
    rows = await database.fetch("select distinct user_id from rollup_drift")
    assert [row["user_id"] for row in rows] == [ben]


@pytest.mark.parametrize("first", ["rated", "voided"])
async def test_what_is_said_of_an_entry_before_it_is_counted_is_counted_with_it(
    first: str, actions: Actions, work: NewUnitOfWork, database: Database, clock: StoppedClock
) -> None:
    """The first of its hour, so that nobody has made one."""
    speech = a_speech(user=uuid4(), at=NOON)
    await actions.record_usage([speech])
    if first == "rated":
        assert await rate_a_page(work) == 1
    else:
        await actions.correct_usage(speech.id, None, reason="test", by=STAFF)
    row = await database.fetchrow("select requests, unpriced_requests from usage_hour")
    assert row is not None
    assert tuple(row) == ((0, -1) if first == "rated" else (-1, -1))
    assert await actions.link_ledger() == 2
    row = await database.fetchrow(
        "select requests, unpriced_requests, cost_microusd::int from usage_hour"
    )
    assert row is not None
    assert tuple(row) == ((1, 0, 11) if first == "rated" else (0, 0, 0))
    clock.forward(timedelta(days=2))
    assert (await actions.check_rollups()).drifts == 0


async def test_going_back_counts_what_waits_and_leaves_it_to_the_release_before(
    postgres_server: PostgresServer,
) -> None:
    name = "companion_billing_back"
    postgres_server.create_database(name)
    url = f"{postgres_server.url.rstrip('/')}/{name}"
    try:
        config = alembic_config("billing", url)
        await asyncio.to_thread(command.upgrade, config, "head")
        await _goes_back(url)
    finally:
        postgres_server.drop_database(name)


async def _goes_back(url: str) -> None:
    usage = [
        *(a_usage(at=NOON, key_organisation_id=key) for key in (None, _FIRM, None)),
        a_speech(at=NOON),
    ]
    config = alembic_config("billing", url)
    async with open_database(url, connections=2, application="tests") as database:
        async with SqlWork(database) as work:
            await work.ledger.add_columns(columns(usage))
        await asyncio.to_thread(command.downgrade, config, "0031")
        own = await database.fetch("select unnest(ids) as id from ledger_unlinked")
        firms = await database.fetch(
            "select unnest(ids) as id from ledger_unlinked_of_organisation"
        )
        assert [row["id"] for row in firms] == [usage[1].id]
        assert {row["id"] for row in own} == {fact.id for fact in usage} - {usage[1].id}
        await asyncio.to_thread(command.upgrade, config, "head")
        assert await drift(database) == []
        [row] = await database.fetch("select count(*) as n from usage_hour")
        assert row["n"] > 0


async def seen(actions: Actions, user: UUID) -> int:
    return await seen_by(actions.report_usage, user)


async def test_who_asks_sees_what_was_just_used(actions: Actions) -> None:
    ada = uuid4()
    for number in range(1, 4):
        await actions.record_usage([a_usage(user=ada, at=NOON)])
        assert await seen(actions, ada) == number
    assert await actions.link_ledger() == 0


async def test_who_asks_while_much_waits_counts_a_little_of_it(
    actions: Actions, database: Database
) -> None:
    ada = uuid4()
    for _ in range(10):
        await actions.record_usage([a_usage(user=ada, at=NOON)])
    assert [await seen(actions, ada) for _ in range(4)] == [4, 8, 10, 10]
    assert await drift(database) == []


async def test_who_asks_while_somebody_links_waits_for_nobody(
    actions: Actions, database: Database, work: NewUnitOfWork
) -> None:
    ada = uuid4()
    await actions.record_usage([a_usage(user=ada, at=NOON)])
    async with work() as linking, asyncio.timeout(10):
        assert await linking.chain.take_turn()
        assert await seen(actions, ada) == 0
    assert await seen(actions, ada) == 1


async def test_sums_are_told_though_nothing_can_be_counted(
    actions: Actions, database: Database
) -> None:
    ada = uuid4()
    await actions.record_usage([a_usage(user=ada, at=NOON)])
    assert await seen(actions, ada) == 1
    await actions.record_usage([a_usage(user=ada, at=NOON)])
    await database.execute("alter table usage_day rename to usage_day_lost")
    try:
        assert await seen(actions, ada) == 1
    finally:
        await database.execute("alter table usage_day_lost rename to usage_day")
    assert await seen(actions, ada) == 2


def asking(database: Database) -> ReportUsage:
    """Who asks by another connection than the one that takes in."""
    return ReportUsage(
        lambda: SqlWork(database), LinkLedger(lambda: SqlWork(database)), StoppedClock()
    )


async def seen_by(report: ReportUsage, user: UUID) -> int:
    found = await report(
        UserId(user), begins=NOON, ends=NOON + timedelta(hours=1), dimensions=(), sandbox=None
    )
    return found.totals.requests


async def test_sums_are_told_while_somebody_has_the_hours(
    actions: Actions, database: Database
) -> None:
    ada = uuid4()
    await actions.record_usage([a_usage(user=ada, at=NOON)])
    assert await seen(actions, ada) == 1
    await actions.record_usage([a_usage(user=ada, at=NOON)])
    async with database.connection() as connection, connection.transaction():
        await connection.execute("select from usage_hour for update")
        async with asyncio.timeout(5):
            assert await seen(actions, ada) == 1
    assert await seen(actions, ada) == 2


async def test_sums_are_told_by_a_database_that_may_only_be_read(
    actions: Actions, database_url: str
) -> None:
    ada = uuid4()
    await actions.record_usage([a_usage(user=ada, at=NOON)])
    assert await seen(actions, ada) == 1
    await actions.record_usage([a_usage(user=ada, at=NOON)])
    url = f"{database_url}?default_transaction_read_only=on"
    async with open_database(url, connections=1, application="tests") as read_only:
        assert await seen_by(asking(read_only), ada) == 1
    assert await seen(actions, ada) == 2


@pytest.mark.parametrize("did_nothing", [False, True])
async def test_a_database_out_of_reach_is_asked_only_once(did_nothing: bool) -> None:
    asked = []

    def no_work() -> SqlWork:
        asked.append(1)
        raise DependencyUnavailable("database", did_nothing=did_nothing) from TimeoutError()

    report = ReportUsage(no_work, LinkLedger(no_work), StoppedClock())
    with pytest.raises(DependencyUnavailable):
        await seen_by(report, uuid4())
    assert len(asked) == 1


async def test_who_reads_does_not_put_off_the_job(actions: Actions, work: NewUnitOfWork) -> None:
    await actions.record_usage([a_usage(at=NOON)])
    async with work() as reading:
        assert await reading.chain.take_turn(briefly=True)
        job = asyncio.create_task(actions.link_ledger())
        await asyncio.sleep(0.2)
        assert not job.done()
    assert await job == 1


@pytest.mark.parametrize(
    "spoil",
    [
        "marks = set_byte(marks, 0, 233)",
        "marks = set_byte(marks, 33, ascii('x'))",
        "marks = set_byte(marks, 0, ascii('l'))",
        "marks = marks || '\\x00'",
        "marks = null",
    ],
)
async def test_what_is_no_mark_keeps_nothing_from_its_link(
    spoil: str, actions: Actions, database: Database
) -> None:
    usage = some_usage(40)
    for part in (usage[:10], usage[10:20], usage[20:]):
        await actions.record_usage.together(columns(part))
    await database.execute(
        f"update ledger_uncounted set {spoil} where id = (select min(id) + 1 from ledger_uncounted)"
    )
    assert await actions.link_ledger() == 40
    assert [one.broken for one in await actions.verify_ledger() if one.broken] == []
    assert await drift(database) == []


@pytest.mark.parametrize("marks", ["null", "''"])
async def test_a_batch_of_nothing_keeps_nothing_from_its_link(
    marks: str, actions: Actions, database: Database
) -> None:
    await database.execute(f"insert into ledger_uncounted (ids, marks) values ('{{}}', {marks})")
    assert await actions.link_ledger() == 0
    await database.execute(f"insert into ledger_uncounted (ids, marks) values ('{{}}', {marks})")
    await actions.record_usage([a_usage(at=NOON)])
    assert await actions.link_ledger() == 1
    assert await database.fetch("select from ledger_uncounted") == []
    assert await drift(database) == []


async def test_nobody_is_told_of_less_than_nothing(
    actions: Actions, work: NewUnitOfWork, database: Database
) -> None:
    ada, ben = uuid4(), uuid4()
    speech, voided = a_speech(user=ben, at=NOON), a_usage(user=ada, at=NOON)
    await actions.record_usage([speech, voided])
    await actions.correct_usage(voided.id, None, reason="test", by=STAFF)
    assert await rate_a_page(work) == 1
    async with work() as linking:
        assert await linking.chain.take_turn()
        for user in (ada, ben):
            report = await actions.report_usage(
                UserId(user),
                begins=NOON,
                ends=NOON + timedelta(hours=1),
                dimensions=(),
                sandbox=None,
            )
            assert min(astuple(report.totals)) >= 0
            assert report.groups == ()
    assert [await seen(actions, user) for user in (ada, ben)] == [0, 1]


async def many_wait(database: Database, number: int) -> None:
    """Until so many statements wait for a row."""
    async with asyncio.timeout(20):
        while len(await database.fetch("select from pg_locks where not granted")) < number:
            await asyncio.sleep(0.01)


async def waits_in_a_circle(database: Database) -> bool:
    row = await database.fetchrow(
        "select deadlocks from pg_stat_database where datname = current_database()"
    )
    assert row is not None
    return bool(row["deadlocks"])


async def test_several_corrections_and_counting_never_wait_in_a_circle(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    first, second, third = users = sorted(uuid4() for _ in range(3))
    usage = {user: a_usage(user=user, at=NOON, producer="chat") for user in users}
    await actions.record_usage(list(usage.values()))
    await actions.link_ledger()
    await actions.record_usage([a_usage(user=user, at=NOON) for user in users])
    voided = [
        Fact(
            event=UsageVoided(user_id=user, event_id=usage[user].id, reason="None."),
            subject=user,
            tier="free",
            source="chat",
        )
        for user in (third, first)
    ]
    async with database.connection() as connection, connection.transaction():
        await connection.execute("select from usage_hour where user_id = $1 for update", second)
        links = asyncio.create_task(actions.link_ledger())
        await many_wait(database, 1)
        corrects = asyncio.create_task(actions.apply_corrections(voided))
        await many_wait(database, 2)
    await asyncio.gather(links, corrects)
    assert (links.result(), corrects.result()) == (3, 2)
    assert not await waits_in_a_circle(database)
    clock.forward(timedelta(days=2))
    assert await actions.link_ledger() == 2
    assert (await actions.check_rollups()).drifts == 0


async def test_refused_usage_and_counting_never_wait_in_a_circle(
    work: NewUnitOfWork, settings: Callable[..., Settings], clock: StoppedClock, database: Database
) -> None:
    actions = actions_on(work, settings(aged_usage_days=35), clock)
    ada, august = uuid4(), datetime(2026, 8, 10, tzinfo=UTC)
    await actions.close_period(Month.named("2026-08"), by=STAFF, reason="test")
    hours = [august + timedelta(hours=hour) for hour in range(3)]
    # Used in one order, and told in the other one.
    await actions.record_usage([a_usage(user=ada, at=at) for at in reversed(hours)])
    await actions.link_ledger()
    await actions.record_usage([a_usage(user=ada, at=at) for at in hours])
    [aged] = await actions.list_aged_usage()
    async with database.connection() as connection, connection.transaction():
        await connection.execute("select from usage_hour where hour = $1 for update", hours[1])
        links = asyncio.create_task(actions.link_ledger())
        await many_wait(database, 1)
        refuses = asyncio.create_task(actions.refuse_aged_usage(aged.group, by=STAFF, reason="No."))
        await many_wait(database, 2)
    await asyncio.gather(links, refuses)
    assert (links.result(), refuses.result()) == (3, (6, 0))
    assert not await waits_in_a_circle(database)
    clock.forward(timedelta(days=2))
    assert await actions.link_ledger() == 6
    assert (await actions.check_rollups()).drifts == 0


class SlowChain(SqlLedgerChain):
    """On a disk that counts so many batches in the time that a statement has, and no more."""

    def __init__(self, connection: Connection, bearable: int, tried: list[int]) -> None:
        super().__init__(connection)
        self._bearable, self._tried = bearable, tried

    async def count(self, uncounted: Sequence[Waiting | MarkedBatch]) -> None:
        self._tried.append(len(uncounted))
        if len(uncounted) > self._bearable:
            raise TimeoutError
        await super().count(uncounted)


def on_a_slow_disk(work: Callable[[], SqlWork], bearable: int, tried: list[int]) -> NewUnitOfWork:
    @asynccontextmanager
    async def begin() -> AsyncIterator[Any]:
        async with work() as begun:
            begun.chain = SlowChain(begun.connection, bearable, tried)
            yield begun

    return begin


async def test_a_disk_that_is_too_slow_for_many_batches_gets_fewer(
    actions: Actions, work: Callable[[], SqlWork], database: Database
) -> None:
    for _ in range(45):
        await actions.record_usage([a_usage(at=NOON)])
    tried: list[int] = []
    link = LinkLedger(on_a_slow_disk(work, 5, tried))
    assert await link() == 45
    assert tried[:6] == [40, 20, 10, 5, 6, 3]
    assert await drift(database) == []
    assert [one.broken for one in await actions.verify_ledger() if one.broken] == []
    # It is remembered, and grows again where the disk bears more.
    for _ in range(9):
        await actions.record_usage([a_usage(at=NOON)])
    before = len(tried)
    assert await link() == 9
    assert max(tried[before:]) <= 6


async def test_one_batch_that_is_too_much_says_so(
    actions: Actions, work: Callable[[], SqlWork]
) -> None:
    await actions.record_usage([a_usage(at=NOON)])
    tried: list[int] = []
    with pytest.raises(DependencyUnavailable):
        await LinkLedger(on_a_slow_disk(work, 0, tried))()
    assert len(tried) == 6
    assert await actions.link_ledger() == 1
