"""Subscriptions on a real database: payments by hand, the clock's work, and the books."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from alembic import command
from sqlalchemy import create_engine, make_url, text

from services.billing.actions import Actions
from services.billing.actions._keep_subscription import take_up
from services.billing.actions.change_subscription import Outcome, Wanted
from services.billing.actions.end_organisation_subscriptions import Dissolved
from services.billing.domain.billing_cycle import Rules
from services.billing.domain.errors import (
    NoPortal,
    PaymentNotFound,
    PlanPriceExists,
    SeatsAssigned,
    SubscriptionNotFound,
    SubscriptionNotPaid,
    TooManyTrialSeats,
    TrialUsed,
)
from services.billing.domain.payment import PaymentId, PaymentKind, PaymentState
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Holder, State, Subscription
from services.billing.providers.list_prices import PublicPrices
from services.billing.settings import Settings
from services.billing.wiring import build_actions, rules_of
from shared.db.database import Database
from shared.db.migrations import alembic_config, upgrade
from shared.erasure import ErasureId
from shared.ids import UserId
from tests.integration.billing.harness import Billing
from tests.support.billing import NOON, FixedCounters, FixedOrganisations, StoppedClock
from tests.support.engines import PostgresServer

DAY = timedelta(days=1)
STAFF = UserId(uuid4())


@pytest.fixture
def ada() -> UserId:
    return UserId(uuid4())


async def order(actions: Actions, who: UserId, tier: str, seats: int | None = None) -> PaymentId:
    """A choice that has to be paid for; answers the payment that it waits for."""
    with pytest.raises(SubscriptionNotPaid) as refusal:
        await actions.change_subscription(Holder(who), Wanted(tier, seats), by=who)
    return PaymentId(UUID(refusal.value.facts["payment_id"]))


async def choose(actions: Actions, who: UserId, tier: str, seats: int | None = None) -> Outcome:
    return await actions.change_subscription(Holder(who), Wanted(tier, seats), by=who)


async def buy(actions: Actions, who: UserId, tier: str, seats: int | None = None) -> None:
    await actions.mark_paid(await order(actions, who, tier, seats), by=STAFF)


async def owed_by(actions: Actions, who: UserId) -> PaymentId:
    """What a renewal that has come waits for."""
    await actions.advance_subscriptions()
    async with actions.mark_paid.unit_of_work() as work:
        owed = await work.payments.open_of(who, PaymentKind.RENEWAL)
    assert owed is not None
    return owed.id


async def amounts(database: Database, who: UserId) -> list[tuple[str, int]]:
    rows = await database.fetch(
        "select kind, amount_microusd from charge where holder_id = $1 order by id", who
    )
    return [(row["kind"], row["amount_microusd"]) for row in rows]


async def test_what_the_billing_team_marks_as_paid_takes_effect_once(
    actions: Actions, database: Database, ada: UserId
) -> None:
    payment = await order(actions, ada, "pro")
    assert await order(actions, ada, "pro") == payment
    assert (await actions.show_subscription(ada)).tier_name == "free"
    bought = await actions.mark_paid(payment, by=STAFF)
    assert (bought.tier_name, bought.state, bought.period_begins) == ("pro", State.ACTIVE, NOON)
    assert await actions.show_subscription(ada) == bought
    for nothing in (payment, PaymentId(uuid4())):
        with pytest.raises(PaymentNotFound):
            await actions.mark_paid(nothing, by=STAFF)
    assert await amounts(database, ada) == [("period_fee", 9_000_000)]


async def test_of_two_who_mark_it_at_once_one_is_told_that_it_is_booked(
    actions: Actions, database: Database, ada: UserId
) -> None:
    payment = await order(actions, ada, "pro")
    sums = range(10_000_000, 14_000_000, 1_000_000)
    told = await asyncio.gather(
        *(actions.mark_paid(payment, by=STAFF, received_microusd=sum_) for sum_ in sums),
        return_exceptions=True,
    )
    [booked] = [s for s, each in zip(sums, told, strict=True) if isinstance(each, Subscription)]
    assert [type(each) for each in told].count(PaymentNotFound) == 3
    [kept] = await database.fetch("select amount_microusd from payment where id = $1", payment)
    assert kept["amount_microusd"] == booked
    assert await amounts(database, ada) == [("period_fee", 9_000_000)]


async def test_what_people_pay_is_whole_cents_and_the_rest_is_in_the_balance(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    clock.move(11 * DAY + timedelta(hours=7))
    payment = await order(actions, ada, "enterprise", 1)
    [asked] = await database.fetch("select amount_microusd from payment where id = $1", payment)
    await actions.mark_paid(payment, by=STAFF)
    balance = await actions.show_balance.of(ada)
    charged = sum(amount for _, amount in await amounts(database, ada))
    assert asked["amount_microusd"] % 10_000
    assert balance.account.paid_microusd % 10_000 == 0
    assert balance.expected_microusd == charged - balance.account.paid_microusd
    assert 0 < abs(balance.expected_microusd) <= 5_000


async def test_with_tax_what_was_told_to_be_transferred_is_what_came(
    work: NewUnitOfWork,
    clock: StoppedClock,
    settings: Callable[..., Settings],
    ada: UserId,
    tmp_path: Path,
) -> None:
    table = tmp_path / "taxes.json"
    rate = {"country": "DE", "from": "2021-01-01", "basis_points": 1_900}
    seller = {"country": "DE", "vat_id": "DE136695976"}
    table.write_text(json.dumps({"rates": [rate], "seller": seller}))
    actions = build_actions(
        work,
        list_prices=PublicPrices(),
        counters=FixedCounters({}),
        organisations=FixedOrganisations({}),
        clock=clock,
        settings=settings(tax_file=table),
    )
    with pytest.raises(SubscriptionNotPaid) as refused:
        await choose(actions, ada, "pro")
    facts = refused.value.facts
    assert (facts["net_cents"], facts["total_cents"]) == (900, 1_071)
    await actions.mark_paid(PaymentId(UUID(facts["payment_id"])), by=STAFF)
    assert (await actions.show_balance.of(ada)).account.paid_microusd == 10_710_000
    clock.move(31 * DAY)
    await actions.advance_subscriptions()
    clock.move(DAY)
    await actions.advance_subscriptions()
    [overdue] = await actions.list_past_due(after=None, most=10)
    assert overdue.payment is not None
    assert overdue.gross is not None
    assert overdue.gross.total_cents == 1_071
    await actions.mark_paid(overdue.payment.id, by=STAFF)
    assert (await actions.show_balance.of(ada)).account.paid_microusd == 21_420_000
    assert await actions.list_past_due(after=None, most=10) == []


async def test_a_renewal_is_owed_marked_as_paid_or_lost(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    clock.move(30 * DAY)
    assert await actions.advance_subscriptions() == 1
    assert await actions.advance_subscriptions() == 0
    clock.move(DAY)
    await actions.advance_subscriptions()
    [listed] = await actions.list_past_due(after=None, most=10)
    overdue, payment = listed.subscription, listed.payment
    assert (overdue.state, overdue.owed_microusd) == (State.PAST_DUE, 9_000_000)
    assert payment is not None
    assert payment.amount_microusd == 9_000_000
    fine = await actions.mark_paid(payment.id, by=STAFF)
    assert (fine.state, fine.owed_microusd) == (State.ACTIVE, 0)
    assert await actions.list_past_due(after=None, most=10) == []
    clock.move(45 * DAY)
    await actions.advance_subscriptions()
    clock.move(10 * DAY)
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


async def test_many_workers_and_a_long_standstill_charge_each_period_once(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    for _ in range(40):
        await actions.mark_paid(await order(actions, UserId(uuid4()), "pro"), by=STAFF)
    clock.move(95 * DAY)
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
    clock.move(timedelta(hours=1))
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
    clock.move(31 * DAY)
    before = await actions.show_subscription(ada)
    with pytest.raises(asyncpg.UniqueViolationError):
        await actions.advance_subscriptions()
    assert await actions.show_subscription(ada) == before
    assert len(await amounts(database, ada)) == 2
    assert (await actions.show_subscription(grace)).owed_microusd == 9_000_000


async def test_charges_can_be_neither_changed_nor_deleted(
    actions: Actions, database: Database, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    for statement in (
        "update charge set amount_microusd = 0",
        "delete from charge",
        "truncate charge",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await database.execute(statement)


async def test_a_price_holds_for_who_bought_at_it_until_the_next_period(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    soon = NOON + 10 * DAY
    await actions.set_plan_price("pro", 12_000_000, effective_from=soon, by=STAFF)
    with pytest.raises(PlanPriceExists):
        await actions.set_plan_price("pro", 1, effective_from=soon, by=STAFF)
    grace = UserId(uuid4())
    clock.move(10 * DAY)
    await buy(actions, grace, "pro")
    assert await amounts(database, grace) == [("period_fee", 12_000_000)]
    assert (await actions.show_subscription(ada)).price_microusd_per_month == 9_000_000
    clock.move(20 * DAY)
    await actions.advance_subscriptions()
    assert await amounts(database, ada) == [("period_fee", 9_000_000), ("period_fee", 12_000_000)]


async def test_two_choices_at_once_wait_for_one_payment(
    actions: Actions, database: Database, ada: UserId
) -> None:
    wishes = ["pro", "enterprise"] * 4
    await asyncio.gather(*(order(actions, ada, wish) for wish in wishes))
    rows = await database.fetch("select state from payment where state = 'open'")
    assert len(rows) == 1


async def test_an_order_that_was_replaced_can_still_be_paid_by_a_transfer(
    actions: Actions, database: Database, ada: UserId
) -> None:
    first = await order(actions, ada, "pro")
    second = await order(actions, ada, "enterprise", 2)
    listed = await actions.list_unpaid_orders(ada, before=None, most=10)
    assert [(one.order.id, one.order.state) for one in listed] == [
        (second, PaymentState.OPEN),
        (first, PaymentState.VOID),
    ]
    assert [one.gross.total_cents for one in listed] == [3_000, 900]
    assert (await actions.mark_paid(first, by=STAFF)).tier_name == "pro"
    with pytest.raises(PaymentNotFound):
        await actions.mark_paid(first, by=STAFF)
    assert (await actions.mark_paid(second, by=STAFF)).tier_name == "enterprise"
    assert [kind for kind, _ in await amounts(database, ada)] == [
        *("period_fee", "proration_credit", "proration_debit"),
    ]
    assert await actions.list_unpaid_orders(ada, before=None, most=10) == []


async def test_what_was_replaced_and_changes_nothing_any_more_is_unused(
    actions: Actions, ada: UserId
) -> None:
    less = await order(actions, ada, "pro")
    await buy(actions, ada, "enterprise", 2)
    assert (await actions.mark_paid(less, by=STAFF)).tier_name == "enterprise"
    [unused] = await actions.list_unused_payments(after=None, most=10)
    assert (unused.id, unused.amount_microusd) == (less, 9_000_000)


async def test_of_two_who_mark_a_replaced_order_at_once_one_books_it(
    actions: Actions, database: Database, ada: UserId
) -> None:
    first = await order(actions, ada, "pro")
    await order(actions, ada, "enterprise")
    told = await asyncio.gather(
        *(actions.mark_paid(first, by=STAFF) for _ in range(4)), return_exceptions=True
    )
    assert [type(each) for each in told].count(PaymentNotFound) == 3
    assert await amounts(database, ada) == [("period_fee", 9_000_000)]


async def test_a_transfer_may_take_days_and_its_order_stays(
    actions: Actions, clock: StoppedClock, ada: UserId
) -> None:
    first = await order(actions, ada, "pro")
    clock.move(5 * DAY)
    assert await order(actions, ada, "pro") == first
    assert (await actions.mark_paid(first, by=STAFF)).tier_name == "pro"
    # What is left of a period costs less half a day later: another sum to ask for.
    more = await order(actions, ada, "enterprise")
    clock.move(timedelta(hours=11))
    assert await order(actions, ada, "enterprise") == more
    clock.move(timedelta(hours=2))
    assert await order(actions, ada, "enterprise") != more
    assert (await actions.mark_paid(more, by=STAFF)).tier_name == "enterprise"


async def test_what_was_asked_for_before_another_wish_was_paid_is_asked_anew(
    actions: Actions, clock: StoppedClock, ada: UserId
) -> None:
    less = await order(actions, ada, "pro")
    whole = await order(actions, ada, "enterprise")
    clock.move(timedelta(minutes=1))
    await actions.mark_paid(less, by=STAFF)
    rest = await order(actions, ada, "enterprise")
    assert rest != whole
    [asked, replaced, *_] = await actions.list_unpaid_orders(ada, before=None, most=10)
    assert (asked.order.id, replaced.order.id) == (rest, whole)
    assert [one.gross.total_cents for one in (asked, replaced)] == [600, 1_500]


async def test_a_sum_of_the_period_before_is_not_asked_for_in_the_next_one(
    actions: Actions, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    clock.move(30 * DAY - timedelta(hours=1))
    little = await order(actions, ada, "enterprise")
    clock.move(timedelta(hours=2))
    await actions.mark_paid(await owed_by(actions, ada), by=STAFF)
    assert await order(actions, ada, "enterprise") != little


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_an_upgrade_for_the_end_of_a_period_is_none_in_the_next_one(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId, is_replaced: bool
) -> None:
    await buy(actions, ada, "pro")
    clock.move(30 * DAY - timedelta(minutes=1))
    little = await order(actions, ada, "enterprise")
    if is_replaced:
        await order(actions, ada, "enterprise", 2)
    clock.move(DAY)
    await actions.mark_paid(await owed_by(actions, ada), by=STAFF)
    assert (await actions.mark_paid(little, by=STAFF)).tier_name == "pro"
    [unused] = await actions.list_unused_payments(after=None, most=10)
    assert unused.id == little
    assert await amounts(database, ada) == [("period_fee", 9_000_000)] * 2


async def test_what_was_replaced_is_paid_at_the_price_of_the_day(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    grace, alan = UserId(uuid4()), UserId(uuid4())
    replaced, waiting, old = [await order(actions, who, "pro") for who in (ada, grace, alan)]
    more = await order(actions, ada, "enterprise")
    await order(actions, ada, "pro")
    for tier, price in (("pro", 12_000_000), ("enterprise", 11_000_000)):
        await actions.set_plan_price(tier, price, effective_from=clock.now() + DAY, by=STAFF)
    clock.move(2 * DAY)
    assert (await actions.mark_paid(replaced, by=STAFF)).tier_name == "free"
    # What was asked for last stands for as long as a transfer takes.
    assert (await actions.mark_paid(waiting, by=STAFF)).tier_name == "pro"
    assert await amounts(database, grace) == [("period_fee", 9_000_000)]
    clock.move(29 * DAY)
    assert (await actions.mark_paid(old, by=STAFF)).tier_name == "free"
    unused = await actions.list_unused_payments(after=None, most=10)
    assert {payment.id for payment in unused} == {replaced, old}
    # Of what costs less by now, the rest is in the balance.
    assert (await actions.mark_paid(more, by=STAFF)).tier_name == "enterprise"
    assert await amounts(database, ada) == [("period_fee", 11_000_000)]


async def test_the_billing_team_sees_what_a_holder_was_asked_for(billing: Billing) -> None:
    ada = uuid4()
    asked = [
        (await billing.send("PUT", "subscription", ada, json={"tier": tier})).json()["payment_id"]
        for tier in ("pro", "enterprise", "pro")
    ]

    async def look(**more: Any) -> dict[str, Any]:
        params = {"holder": str(ada), "limit": 2, **more}
        page = await billing.send(
            "GET", "admin/payments/orders", STAFF, role="billing", params=params
        )
        assert page.status_code == 200, page.text
        body: dict[str, Any] = page.json()
        return body

    first = await look()
    assert [row["payment_id"] for row in first["data"]] == asked[:0:-1]
    rest = await look(cursor=first["next_cursor"])
    assert [row["payment_id"] for row in rest["data"]] == asked[:1]
    row = rest["data"][0]
    assert (row["state"], row["tier"], row["total_cents"]) == ("void", "pro", 900)
    assert (await look(holder=str(uuid4())))["data"] == []


async def test_a_trial_is_used_up_and_its_tier_is_gone_by_itself(
    actions: Actions, clock: StoppedClock, ada: UserId
) -> None:
    wish = Wanted("pro", trial=True)
    trying = await actions.change_subscription(Holder(ada), wish, by=ada)
    assert (trying.subscription.state, trying.charges) == (State.TRIALING, ())
    clock.move(14 * DAY)
    await actions.advance_subscriptions()
    over = await actions.show_subscription(ada)
    assert (over.state, over.tier_name) == (State.ENDED, "free")


async def test_a_person_has_one_trial_for_whomever_and_of_few_seats(
    work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings], ada: UserId
) -> None:
    firms = [uuid4() for _ in range(4)]
    actions = build_actions(
        work,
        list_prices=PublicPrices(),
        counters=FixedCounters({}),
        organisations=FixedOrganisations({(firm, ada): True for firm in firms}),
        clock=clock,
        settings=settings(trial_seats=5),
    )

    async def begin(firm: UUID, seats: int) -> Outcome:
        holder = Holder(UserId(firm), is_organisation=True)
        wish = Wanted("enterprise", seats, trial=True)
        return await actions.change_subscription(holder, wish, by=ada)

    with pytest.raises(TooManyTrialSeats):
        await begin(firms[0], 6)
    begun = await asyncio.gather(*(begin(firm, 5) for firm in firms), return_exceptions=True)
    assert [type(one) for one in begun if not isinstance(one, Outcome)] == [TrialUsed] * 3
    clock.move(14 * DAY)
    await actions.advance_subscriptions()
    # Nor one for themselves, and a preview says so.
    with pytest.raises(TrialUsed):
        await actions.change_subscription.preview(Holder(ada), Wanted("pro", trial=True), by=ada)


async def test_whoever_resumes_a_colleagues_trial_has_one_of_their_own(
    work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings], ada: UserId
) -> None:
    grace, firm = UserId(uuid4()), uuid4()
    actions = build_actions(
        work,
        list_prices=PublicPrices(),
        counters=FixedCounters({}),
        organisations=FixedOrganisations({(firm, who): True for who in (ada, grace)}),
        clock=clock,
        settings=settings(),
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
    clock.move(31 * DAY)
    # No job came by: the choice itself brings the subscription up to now before it is weighed.
    assert (await choose(actions, ada, "enterprise", 2)).subscription.seats == 2
    assert await amounts(database, ada) == [
        ("period_fee", 60_000_000),
        ("period_fee", 30_000_000),
    ]


async def test_no_fewer_seats_than_people_sit_on(
    work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings], ada: UserId
) -> None:
    firm = UserId(uuid4())
    actions = build_actions(
        work,
        list_prices=PublicPrices(),
        counters=FixedCounters({}),
        organisations=FixedOrganisations({(firm, ada): True}, seats_taken=4),
        clock=clock,
        settings=settings(),
    )
    await actions.grant_subscription(firm, "enterprise", 6, by=STAFF, is_organisation=True)
    holder = Holder(firm, is_organisation=True)
    with pytest.raises(SeatsAssigned) as refusal:
        await actions.change_subscription(holder, Wanted("enterprise", 3), by=ada)
    assert refusal.value.facts == {"assigned": 4}
    fewer = await actions.change_subscription(holder, Wanted("enterprise", 4), by=ada)
    assert fewer.subscription.seats == 4
    with pytest.raises(SubscriptionNotFound):
        await actions.list_charges(holder, by=UserId(uuid4()), after=None, most=5)


async def test_without_a_provider_there_is_no_page_and_nothing_to_catch_up_on(
    actions: Actions, ada: UserId
) -> None:
    with pytest.raises(NoPortal):
        await actions.open_portal(Holder(ada), by=ada)
    assert await actions.catch_up_on_payments() == 0
    assert await actions.tell_payers() == 0


async def test_a_deleted_account_is_charged_up_to_that_day(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    clock.move(15 * DAY)
    await actions.forget_user.begin([(ada, ErasureId(uuid4()))])
    assert await amounts(database, ada) == [
        ("period_fee", 9_000_000),
        ("proration_credit", -4_500_000),
    ]


async def test_what_comes_for_a_renewal_that_was_written_off_is_unused(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    clock.move(31 * DAY)
    owed = await owed_by(actions, ada)
    clock.move(10 * DAY)
    assert (await actions.mark_paid(owed, by=STAFF)).state is State.ENDED
    with pytest.raises(PaymentNotFound):
        await actions.mark_paid(owed, by=STAFF)
    [unused] = await actions.list_unused_payments(after=None, most=10)
    assert (unused.id, unused.amount_microusd) == (owed, 9_000_000)
    assert sum(amount for _, amount in await amounts(database, ada)) == 9_000_000


async def test_what_those_owed_who_are_gone_is_written_off_and_waits_for_nobody(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    firm, grace = UserId(uuid4()), UserId(uuid4())
    organisations = FixedOrganisations({(firm, ada): True})
    change = replace(actions.change_subscription, organisations=organisations)
    await buy(actions, ada, "pro")
    await buy(actions, grace, "pro")
    with pytest.raises(SubscriptionNotPaid) as refusal:
        await change(Holder(firm, is_organisation=True), Wanted("enterprise", 2), by=ada)
    await actions.mark_paid(PaymentId(UUID(refusal.value.facts["payment_id"])), by=STAFF)
    clock.move(32 * DAY)
    # Of grace it is known by now that the next period began; for the others the clock's own job
    # did not come by.
    async with actions.mark_paid.unit_of_work() as work:
        await take_up(work, Holder(grace), clock.now(), Rules())
    await actions.forget_user.begin([(who, ErasureId(uuid4())) for who in (ada, grace)])
    await actions.end_organisation_subscriptions([Dissolved(firm, ada)])
    for holder, fee in ((ada, 9_000_000), (grace, 9_000_000), (firm, 30_000_000)):
        assert await amounts(database, holder) == [
            ("period_fee", fee),
            ("period_fee", fee),
            ("write_off", -fee),
        ]
    asked = await database.fetch("select holder_id, state from payment where kind = 'renewal'")
    assert {(row["holder_id"], row["state"]) for row in asked} == {(grace, "void"), (firm, "void")}


async def test_what_comes_for_a_deleted_account_is_unused(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    grace = UserId(uuid4())
    wish = await order(actions, ada, "pro")
    await buy(actions, grace, "pro")
    clock.move(31 * DAY)
    await actions.advance_subscriptions()
    [owed] = await database.fetch("select id from payment where kind = 'renewal'")
    renewal = PaymentId(owed["id"])
    await actions.forget_user.begin([(who, ErasureId(uuid4())) for who in (ada, grace)])
    for payment in (wish, renewal):
        assert (await actions.mark_paid(payment, by=STAFF)).state is State.NONE
        with pytest.raises(PaymentNotFound):
            await actions.mark_paid(payment, by=STAFF)
    unused = await actions.list_unused_payments(after=None, most=10)
    assert {payment.id for payment in unused} == {wish, renewal}
    assert await database.fetch("select * from subscription") == []


async def test_what_comes_for_a_dissolved_organisation_is_unused(
    actions: Actions, database: Database, ada: UserId
) -> None:
    firm = uuid4()
    known = FixedOrganisations({(firm, ada): True})
    change = replace(actions.change_subscription, organisations=known)
    wishes = []
    for seats in (3, 5):
        with pytest.raises(SubscriptionNotPaid) as refusal:
            holder = Holder(UserId(firm), is_organisation=True)
            await change(holder, Wanted("enterprise", seats), by=ada)
        wishes.append(PaymentId(UUID(refusal.value.facts["payment_id"])))
    for _delivery in range(2):
        await actions.end_organisation_subscriptions([Dissolved(UserId(firm), ada)])
    for wish in wishes:
        assert (await actions.mark_paid(wish, by=STAFF)).tier_name == "free"
        with pytest.raises(PaymentNotFound):
            await actions.mark_paid(wish, by=STAFF)
    unused = await actions.list_unused_payments(after=None, most=10)
    assert [payment.id for payment in unused] == wishes
    [kept] = await database.fetch("select tier, next_step_at from subscription")
    assert tuple(kept.values()) == ("free", None)
    assert await amounts(database, UserId(firm)) == []


async def test_what_comes_while_an_account_is_deleted_waits_and_is_unused(
    actions: Actions, database: Database, ada: UserId
) -> None:
    wish = await order(actions, ada, "pro")
    async with database.connection() as erasing:
        async with erasing.transaction():
            await erasing.execute("delete from subscription where user_id = $1", ada)
            marked = asyncio.create_task(actions.mark_paid(wish, by=STAFF))
            await asyncio.sleep(0.3)
            assert not marked.done()
        assert (await marked).state is State.NONE
    [unused] = await actions.list_unused_payments(after=None, most=10)
    assert unused.id == wish
    assert await database.fetch("select * from subscription") == []


# Doors


async def test_charges_are_shown_page_by_page_and_to_nobody_else(
    billing: Billing, actions: Actions
) -> None:
    ada = UserId(uuid4())
    refused = await billing.send("PUT", "subscription", ada, json={"tier": "pro"})
    payment = refused.json()["payment_id"]
    assert refused.json()["amount_microusd"] == 9_000_000
    stranger = await billing.send("POST", f"admin/payments/{payment}/paid", ada)
    assert stranger.status_code == 403
    paid = await billing.send(
        "POST", f"admin/payments/{payment}/paid", STAFF, role="billing", json={}
    )
    assert (paid.status_code, paid.json()["state"]) == (200, "active")
    more = await billing.send("PUT", "subscription", ada, json={"tier": "enterprise", "seats": 2})
    payment = more.json()["payment_id"]
    await billing.send("POST", f"admin/payments/{payment}/paid", STAFF, role="billing")
    page = (await billing.get("charges", ada, params={"limit": 2})).json()
    assert len(page["data"]) == 2
    rest = (await billing.get("charges", ada, params={"cursor": page["next_cursor"]})).json()
    assert [charge["kind"] for charge in rest["data"]] == ["period_fee"]
    assert rest["data"][0]["amount_usd"] == "9.000000"
    assert (await billing.get("charges", uuid4())).json()["data"] == []
    bad = await billing.get("charges", ada, params={"cursor": "nonsense"})
    assert bad.status_code == 422


async def test_money_that_came_without_a_provider_is_booked_once_by_its_reference(
    billing: Billing,
) -> None:
    ada = UserId(uuid4())
    wanted = {"holder_id": str(ada), "amount_cents": 190, "reference": f"bank/{ada}", "note": "VAT"}

    async def book(**other: Any) -> httpx.Response:
        return await billing.send(
            "POST", "admin/payments", STAFF, role="billing", json=wanted | other
        )

    unknown = await book()
    assert (unknown.status_code, unknown.json()["code"]) == (404, "holder_not_found")
    refused = await billing.send("PUT", "subscription", ada, json={"tier": "pro"})
    order = refused.json()
    assert (order["net_cents"], order["tax_cents"], order["total_cents"]) == (900, 0, 900)
    paid = f"admin/payments/{order['payment_id']}/paid"
    got = await billing.send("POST", paid, STAFF, role="billing", json={"amount_cents": 880})
    assert (got.status_code, got.json()["state"]) == (200, "active")
    booked = await asyncio.gather(*(book() for _ in range(4)))
    assert {answer.status_code for answer in booked} == {201}
    assert len({answer.json()["payment_id"] for answer in booked}) == 1
    replayed = [answer.headers.get("idempotency-replayed") for answer in booked]
    assert sorted(replayed, key=str) == [None, "true", "true", "true"]
    other = await book(amount_cents=191)
    assert (other.status_code, other.json()["code"]) == (409, "payment_reference_used")
    back = await book(amount_cents=-90, reference=f"back/{ada}")
    assert (back.json()["kind"], back.json()["amount_microusd"]) == ("refund", -900_000)
    balance = (await billing.get("balance", ada)).json()
    assert (balance["paid_microusd"], balance["returned_microusd"]) == (10_700_000, 900_000)
    for wrong in (
        {"amount_cents": 0},
        {"amount_cents": 1.5},
        {"reference": ""},
        {"note": "x" * 301},
    ):
        assert (await book(**({"reference": "another"} | wrong))).status_code == 422


async def test_an_unused_payment_that_was_dealt_with_is_listed_no_more(
    billing: Billing,
) -> None:
    ada, grace = uuid4(), uuid4()
    for holder in (ada, grace):
        await billing.database.execute(
            "insert into payment (id, holder_id, is_organisation, kind, state, provider,"
            " amount_microusd, asked_by, created_at)"
            " values ($1, $1, false, 'order', 'unused', 'stripe', 9000000, $1, now())",
            holder,
        )

    async def unused() -> set[str]:
        page = await billing.send(
            "GET", "admin/payments/unused", STAFF, role="billing", params={"limit": 200}
        )
        return {row["payment_id"] for row in page.json()["data"]} & {str(ada), str(grace)}

    async def settle(payment: UUID, cents: int) -> httpx.Response:
        body = {"holder_id": str(ada), "amount_cents": cents, "reference": f"{payment}/{cents}"}
        body |= {"note": "Paid twice.", "payment_id": str(payment)}
        return await billing.send("POST", "admin/payments", STAFF, role="billing", json=body)

    assert await unused() == {str(ada), str(grace)}
    somebody_elses = await settle(grace, -900)
    assert (somebody_elses.status_code, somebody_elses.json()["code"]) == (404, "payment_not_found")
    assert (await settle(ada, -900)).status_code == 201
    assert (await settle(ada, -900)).headers["idempotency-replayed"] == "true"
    assert await unused() == {str(grace)}
    # Booked first without it, and then with it: it counts as dealt with all the same.
    money = {
        "holder_id": str(grace),
        "amount_cents": -900,
        "reference": f"{grace}",
        "note": "Twice.",
    }

    async def book(**more: Any) -> httpx.Response:
        body = money | more
        return await billing.send("POST", "admin/payments", STAFF, role="billing", json=body)

    assert (await book()).status_code == 201
    # What is dealt with already, and somebody else's, is not by this.
    others = await book(payment_id=str(ada))
    assert (others.status_code, others.json()["code"]) == (409, "payment_reference_used")
    assert await unused() == {str(grace)}
    for _twice in range(2):
        settled = await book(payment_id=str(grace))
        assert settled.headers["idempotency-replayed"] == "true"
        assert await unused() == set()
    assert (await settle(ada, 0)).status_code == 404
    balance = (await billing.get("balance", ada)).json()
    assert (balance["paid_microusd"], balance["returned_microusd"]) == (9_000_000, 9_000_000)
    # What a refusal left behind was rolled back.
    rows = await billing.database.fetch("select kind from payment where holder_id = $1", ada)
    assert sorted(row["kind"] for row in rows) == ["order", "refund"]


async def test_nothing_to_cancel_and_nothing_to_resume(billing: Billing) -> None:
    ada = uuid4()
    for verb, code in (("cancel", "nothing_to_cancel"), ("resume", "nothing_to_resume")):
        answer = await billing.send("POST", f"subscription/{verb}", ada)
        assert (answer.status_code, answer.json()["code"]) == (409, code)


async def test_the_price_of_a_plan_is_set_by_the_billing_team(billing: Billing) -> None:
    body = {
        "tier": "pro",
        "microusd_per_seat_month": 10_000_000,
        "effective_from": "2100-01-01T00:00:00Z",
    }
    made = await billing.send("POST", "admin/plan-prices", STAFF, role="billing", json=body)
    assert (made.status_code, made.json()["tier"]) == (201, "pro")
    again = await billing.send("POST", "admin/plan-prices", STAFF, role="billing", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "plan_price_exists")
    odd = {**body, "tier": "gold"}
    refused = await billing.send("POST", "admin/plan-prices", STAFF, role="billing", json=odd)
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_tier")
    past = {**body, "effective_from": "2026-01-01T00:00:00Z"}
    refused = await billing.send("POST", "admin/plan-prices", STAFF, role="billing", json=past)
    assert (refused.status_code, refused.json()["code"]) == (422, "effective_from_past")
    # Everybody has it who never chose.
    free = {**body, "tier": "free", "effective_from": "2100-01-02T00:00:00Z"}
    refused = await billing.send("POST", "admin/plan-prices", STAFF, role="billing", json=free)
    assert (refused.status_code, refused.json()["code"]) == (422, "default_plan_is_free")
    free["microusd_per_seat_month"] = 0  # one that was set before this was refused can be ended
    made = await billing.send("POST", "admin/plan-prices", STAFF, role="billing", json=free)
    assert made.status_code == 201
    plans = (await billing.get("plans", uuid4())).json()["data"]
    assert plans[1]["price_version"] == "tiers/9000000"


# What was there before


def test_who_had_a_tier_before_goes_on_without_a_period(postgres_server: PostgresServer) -> None:
    with postgres_server.fresh_database() as url:
        command.upgrade(alembic_config("billing", url), "0004")
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg2"))
        insert = text(
            "insert into subscription (user_id, tier, seats, revision) values (:u, :t, 1, :r)"
        )
        with engine.begin() as connection:
            for tier, revision in (("pro", 3), ("free", 2), ("free", 0)):
                connection.execute(insert, {"u": uuid4(), "t": tier, "r": revision})
        upgrade("billing", url)
        with engine.connect() as connection:
            rows = connection.execute(
                text("select tier, state, period_ends from subscription order by revision")
            ).all()
        engine.dispose()
    assert [tuple(row) for row in rows] == [
        ("free", "none", None),
        ("free", "ended", None),
        ("pro", "active", None),
    ]


def test_what_the_operator_decides_is_read_from_the_settings(
    settings: Callable[..., Settings],
) -> None:
    rules = rules_of(settings(dunning_days="5,2,2,0", grace_days=6, trial_days=0, order_days=7))
    assert (rules.retries_after, rules.grace, rules.trial) == ((2 * DAY, 5 * DAY), 6 * DAY, None)
    assert rules.order_stands == 7 * DAY
    for wrong in (
        {"stripe_api_key": "rk_test_x"},
        {"dunning_days": "soon"},
        {
            "stripe_api_key": "rk_test_x",
            "stripe_webhook_secrets": "whsec_x",
            "stripe_return_url": "https://companion.example",
            "stripe_prices": {"pro": "price_x"},
        },
    ):
        with pytest.raises(ValueError) as refusal:
            settings(**wrong)
        assert "rk_test_x" not in str(refusal.value)
