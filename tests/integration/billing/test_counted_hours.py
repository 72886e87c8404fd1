"""Hours follow when entries get their links: whoever rates, corrects or checks meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from alembic import command

from services.billing.actions import Actions
from services.billing.domain.correction import Deltas
from services.billing.domain.ledger import Rating
from services.billing.domain.ports import NewUnitOfWork
from services.billing.storage.unit_of_work import SqlWork
from shared.db.database import Database, open_database
from shared.db.migrations import alembic_config
from shared.ids import UserId
from shared.money import MicroDollars
from tests.integration.billing.harness import drift
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
    row = await database.fetchrow(
        "select deadlocks from pg_stat_database where datname = current_database()"
    )
    assert row is not None
    assert row["deadlocks"] == 0


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
    report = await actions.report_usage(
        UserId(user), begins=NOON, ends=NOON + timedelta(hours=1), dimensions=(), sandbox=None
    )
    return report.totals.requests


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
