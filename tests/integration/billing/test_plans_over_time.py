"""Subscriptions and the clock: renewals, trials, prices that change, and ends of periods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.billing.actions import Actions
from services.billing.actions.change_subscription import Outcome, Wanted
from services.billing.domain.errors import (
    PlanPriceExists,
    TooManyTrialSeats,
    TrialUsed,
)
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Holder, State
from services.billing.settings import Settings
from shared.db.database import Database
from shared.ids import UserId
from tests.integration.billing.harness import actions_on
from tests.integration.billing.plans import DAY, STAFF, amounts, buy, choose, order, owed_by
from tests.support.billing import NOON, FixedOrganisations, StoppedClock


async def test_a_renewal_is_owed_marked_as_paid_or_lost(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    clock.forward(30 * DAY)
    assert await actions.advance_subscriptions() == 1
    assert await actions.advance_subscriptions() == 0
    clock.forward(DAY)
    await actions.advance_subscriptions()
    [listed] = await actions.list_past_due(after=None, most=10)
    overdue, payment = listed.subscription, listed.payment
    assert (overdue.state, overdue.owed_microusd) == (State.PAST_DUE, 9_000_000)
    assert payment is not None
    assert payment.amount_microusd == 9_000_000
    fine = await actions.mark_paid(payment.id, by=STAFF)
    assert (fine.state, fine.owed_microusd) == (State.ACTIVE, 0)
    assert await actions.list_past_due(after=None, most=10) == []
    clock.forward(45 * DAY)
    await actions.advance_subscriptions()
    clock.forward(10 * DAY)
    await actions.advance_subscriptions()
    assert (await actions.show_subscription(ada)).tier_name == "free"
    assert await amounts(database, ada) == [
        ("period_fee", 9_000_000),
        ("period_fee", 9_000_000),
        ("period_fee", 9_000_000),
        ("write_off", -9_000_000),
    ]
    states = await database.fetch("select state from payment order by id")
    assert [row["state"] for row in states] == ["paid", "paid", "void"]
    told = await database.fetch("select envelope from outbox order by created_at")
    said = [(row["envelope"]["type"], row["envelope"]["data"]["tier_name"]) for row in told]
    tiers = [tier for type_, tier in said if type_ == "subscription.changed"]
    assert (tiers[0], tiers[-1]) == ("pro", "free")
    news = ["payment.due", "payment.due", "payment.overdue", "subscription.ended"]
    assert sorted(type_ for type_, _ in said if type_ != "subscription.changed") == news


async def test_going_back_to_free_while_a_period_is_overdue_says_that_it_ends_at_once(
    actions: Actions, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    later = await actions.change_subscription.preview(Holder(ada), Wanted("free"), by=ada)
    assert (later.effective_at, later.subscription.tier_name) == (NOON + 30 * DAY, "pro")
    clock.forward(30 * DAY)
    await actions.advance_subscriptions()
    clock.forward(DAY)
    await actions.advance_subscriptions()
    gone = await choose(actions, ada, "free")
    assert (gone.effective_at, gone.subscription.tier_name) == (clock.now(), "free")


async def test_many_workers_and_a_long_standstill_charge_each_period_once(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    for _ in range(40):
        await actions.mark_paid(await order(actions, UserId(uuid4()), "pro"), by=STAFF)
    clock.forward(95 * DAY)
    done = await asyncio.gather(*(actions.advance_subscriptions() for _ in range(4)))
    assert sum(done) == 40
    [row] = await database.fetch(
        "select count(*) as rows, count(distinct effect_key) as effects,"
        " sum(amount_microusd)::bigint as total from charge"
    )
    assert (row["rows"], row["effects"], row["total"]) == (160, 160, 160 * 9_000_000)
    owed = await database.fetch("select distinct owed_microusd, dunning_step from subscription")
    assert [(row["owed_microusd"], row["dunning_step"]) for row in owed] == [(27_000_000, 0)]


async def test_one_that_fails_us_is_not_half_charged_and_holds_nobody_up(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    grace = UserId(uuid4())
    clock.forward(timedelta(hours=1))
    await buy(actions, grace, "pro")
    # What the next renewal would charge stands there already: a bug of ours, so nothing moves.
    due = (await actions.show_subscription(ada)).period_ends
    assert due is not None
    await database.execute(
        "insert into charge select gen_random_uuid(), holder_id, is_organisation, kind, tier,"
        " seats, unit_price_microusd, price_version, begins, ends, amount_microusd, $2, revision,"
        " charged_at from charge where holder_id = $1",
        ada,
        f"renewal/{ada}/{due.isoformat()}",
    )
    clock.forward(31 * DAY)
    before = await actions.show_subscription(ada)
    with pytest.raises(asyncpg.UniqueViolationError):
        await actions.advance_subscriptions()
    assert await actions.show_subscription(ada) == before
    assert len(await amounts(database, ada)) == 2
    assert (await actions.show_subscription(grace)).owed_microusd == 9_000_000


async def test_who_buys_while_it_costs_nothing_pays_from_the_period_on_at_which_it_costs(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await actions.set_plan_price("pro", 0, effective_from=None, by=STAFF)
    await actions.set_plan_price("pro", 4_000_000, effective_from=NOON + 10 * DAY, by=STAFF)
    held = (await choose(actions, ada, "pro")).subscription
    assert (held.state, held.price_microusd_per_month) == (State.ACTIVE, 0)
    assert held.period_ends == NOON + 30 * DAY
    assert await amounts(database, ada) == []
    clock.forward(30 * DAY)
    await actions.advance_subscriptions()
    assert (await actions.show_subscription(ada)).owed_microusd == 4_000_000
    assert await amounts(database, ada) == [("period_fee", 4_000_000)]


async def test_a_price_holds_for_who_bought_at_it_until_the_next_period(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    soon = NOON + 10 * DAY
    await actions.set_plan_price("pro", 12_000_000, effective_from=soon, by=STAFF)
    with pytest.raises(PlanPriceExists):
        await actions.set_plan_price("pro", 1, effective_from=soon, by=STAFF)
    grace = UserId(uuid4())
    clock.forward(10 * DAY)
    await buy(actions, grace, "pro")
    assert await amounts(database, grace) == [("period_fee", 12_000_000)]
    assert (await actions.show_subscription(ada)).price_microusd_per_month == 9_000_000
    clock.forward(20 * DAY)
    await actions.advance_subscriptions()
    assert await amounts(database, ada) == [("period_fee", 9_000_000), ("period_fee", 12_000_000)]


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_an_upgrade_for_the_end_of_a_period_is_none_in_the_next_one(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId, is_replaced: bool
) -> None:
    await buy(actions, ada, "pro")
    clock.forward(30 * DAY - timedelta(minutes=1))
    little = await order(actions, ada, "enterprise")
    if is_replaced:
        await order(actions, ada, "enterprise", 2)
    clock.forward(DAY)
    await actions.mark_paid(await owed_by(actions, ada), by=STAFF)
    assert (await actions.mark_paid(little, by=STAFF)).tier_name == "pro"
    [unused] = await actions.list_unused_payments(after=None, most=10)
    assert unused.id == little
    assert await amounts(database, ada) == [("period_fee", 9_000_000)] * 2


async def test_a_trial_is_used_up_and_its_tier_is_gone_by_itself(
    actions: Actions, clock: StoppedClock, ada: UserId
) -> None:
    wish = Wanted("pro", trial=True)
    trying = await actions.change_subscription(Holder(ada), wish, by=ada)
    assert (trying.subscription.state, trying.charges) == (State.TRIALING, ())
    clock.forward(14 * DAY)
    await actions.advance_subscriptions()
    over = await actions.show_subscription(ada)
    assert (over.state, over.tier_name) == (State.ENDED, "free")


async def test_a_person_has_one_trial_for_whomever_and_of_few_seats(
    work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings], ada: UserId
) -> None:
    firms = [uuid4() for _ in range(4)]
    actions = actions_on(
        work,
        settings(trial_seats=5),
        clock,
        organisations=FixedOrganisations({(firm, ada): True for firm in firms}),
    )

    async def begin(firm: UUID, seats: int) -> Outcome:
        holder = Holder(UserId(firm), is_organisation=True)
        wish = Wanted("enterprise", seats, trial=True)
        return await actions.change_subscription(holder, wish, by=ada)

    with pytest.raises(TooManyTrialSeats):
        await begin(firms[0], 6)
    begun = await asyncio.gather(*(begin(firm, 5) for firm in firms), return_exceptions=True)
    assert [type(one) for one in begun if not isinstance(one, Outcome)] == [TrialUsed] * 3
    clock.forward(14 * DAY)
    await actions.advance_subscriptions()
    # Nor one for themselves, and a preview says so.
    with pytest.raises(TrialUsed):
        await actions.change_subscription.preview(Holder(ada), Wanted("pro", trial=True), by=ada)


async def test_whoever_resumes_a_colleagues_trial_has_one_of_their_own(
    work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings], ada: UserId
) -> None:
    grace, firm = UserId(uuid4()), uuid4()
    actions = actions_on(
        work,
        settings(),
        clock,
        organisations=FixedOrganisations({(firm, who): True for who in (ada, grace)}),
    )
    holder = Holder(UserId(firm), is_organisation=True)
    await actions.change_subscription(holder, Wanted("enterprise", 3, trial=True), by=ada)
    await actions.cancel_subscription(holder, by=ada)
    await actions.resume_subscription(holder, by=grace)
    own = await actions.change_subscription(Holder(grace), Wanted("pro", trial=True), by=grace)
    assert own.subscription.state is State.TRIALING
    with pytest.raises(TrialUsed):
        await actions.change_subscription(Holder(ada), Wanted("pro", trial=True), by=ada)


async def test_whoever_is_late_to_the_clock_sees_it_first(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "enterprise", 4)
    await choose(actions, ada, "enterprise", 2)
    clock.forward(31 * DAY)
    # No job came by: the choice itself brings the subscription up to now before it is weighed.
    assert (await choose(actions, ada, "enterprise", 2)).subscription.seats == 2
    assert await amounts(database, ada) == [
        ("period_fee", 60_000_000),
        ("period_fee", 30_000_000),
    ]
