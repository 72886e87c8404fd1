"""What those who are gone owed and paid: deleted accounts, dissolved organisations."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from services.billing.actions import Actions
from services.billing.actions._keep_subscription import take_up
from services.billing.actions.change_subscription import Wanted
from services.billing.actions.end_organisation_subscriptions import Dissolved
from services.billing.domain.billing_cycle import Rules
from services.billing.domain.errors import (
    PaymentSettled,
    SubscriptionNotPaid,
)
from services.billing.domain.payment import PaymentId
from services.billing.domain.subscription import Holder, State
from shared.db.database import Database
from shared.erasure import ErasureId
from shared.ids import UserId
from tests.integration.billing.plans import DAY, STAFF, amounts, buy, order, owed_by
from tests.support.billing import FixedOrganisations, StoppedClock
from tests.support.waiting import until_locked_out


async def test_a_deleted_account_is_charged_up_to_that_day(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    clock.forward(15 * DAY)
    await actions.forget_user.begin([(ada, ErasureId(uuid4()))])
    assert await amounts(database, ada) == [
        ("period_fee", 9_000_000),
        ("proration_credit", -4_500_000),
    ]


async def test_what_comes_for_a_renewal_that_was_written_off_is_unused(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    clock.forward(31 * DAY)
    owed = await owed_by(actions, ada)
    clock.forward(10 * DAY)
    assert (await actions.mark_paid(owed, by=STAFF)).state is State.ENDED
    with pytest.raises(PaymentSettled):
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
    clock.forward(32 * DAY)
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
    clock.forward(31 * DAY)
    await actions.advance_subscriptions()
    [owed] = await database.fetch("select id from payment where kind = 'renewal'")
    renewal = PaymentId(owed["id"])
    await actions.forget_user.begin([(who, ErasureId(uuid4())) for who in (ada, grace)])
    for payment in (wish, renewal):
        assert (await actions.mark_paid(payment, by=STAFF)).state is State.NONE
        with pytest.raises(PaymentSettled):
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
        with pytest.raises(PaymentSettled):
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
            await until_locked_out(database)
            assert not marked.done()
        assert (await marked).state is State.NONE
    [unused] = await actions.list_unused_payments(after=None, most=10)
    assert unused.id == wish
    assert await database.fetch("select * from subscription") == []
