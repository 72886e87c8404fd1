"""Choosing and paying for plans by hand, as the tests of subscriptions do."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.billing.actions import Actions
from services.billing.actions.change_subscription import Outcome, Wanted
from services.billing.domain.errors import (
    SubscriptionNotPaid,
)
from services.billing.domain.payment import PaymentId, PaymentKind
from services.billing.domain.subscription import Holder
from shared.db.database import Database
from shared.ids import UserId

DAY = timedelta(days=1)


STAFF = UserId(uuid4())


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
