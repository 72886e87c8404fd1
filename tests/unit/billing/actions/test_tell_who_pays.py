"""What those hear who pay: a payment is due, overdue, or the tier has ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from services.billing.actions.advance_subscriptions import AdvanceSubscriptions
from services.billing.domain.billing_cycle import Rules
from services.billing.domain.payment import Payer
from services.billing.domain.subscription import State, Subscription
from services.billing.providers.manual import ManualPayments
from shared.events import Event
from shared.events.payment import PaymentDue, PaymentOverdue
from shared.events.subscription import SubscriptionEnded
from shared.ids import UserId
from tests.support.billing import NOON, Memory, StoppedClock

FIRM = UserId(uuid4())
DAY = timedelta(days=1)
HELD = Subscription(
    FIRM,
    "enterprise",
    4,
    3,
    is_organisation=True,
    state=State.ACTIVE,
    anchor=NOON - 30 * DAY,
    period_begins=NOON - 30 * DAY,
    period_ends=NOON,
    unit_price_microusd=15_000_000,
    price_version="x",
    next_step_at=NOON,
)


class Days:
    """A subscription while the days go by, each with several rounds of the worker."""

    def __init__(self, held: Subscription, payer: Payer | None = None) -> None:
        self.memory = Memory(kept={FIRM: held})
        if payer is not None:
            self.memory.payments.payers[FIRM] = payer
        self.clock = StoppedClock()
        self.advance = AdvanceSubscriptions(self.memory.work, self.clock, ManualPayments(), Rules())

    async def go_by(self, days: int) -> list[Event]:
        """What was told meanwhile."""
        before = len(self.memory.published)
        for _ in range(days):
            for _round in range(2):
                await self.advance()
            self.clock.forward(DAY)
        told = [event for event, _, _ in self.memory.published[before:]]
        return [e for e in told if isinstance(e, PaymentDue | PaymentOverdue | SubscriptionEnded)]


async def test_a_payment_is_due_then_overdue_and_then_the_tier_ends_each_told_once() -> None:
    days = Days(HELD)
    [due] = await days.go_by(1)
    owing = {
        "holder_id": FIRM,
        "is_organisation": True,
        "tier_name": "enterprise",
        "amount_microusd": 60_000_000,
        "holds_until": NOON + 10 * DAY,
    }
    assert due == PaymentDue.model_validate(owing)
    assert await days.go_by(9) == [PaymentOverdue.model_validate(owing)]
    [ended] = await days.go_by(5)
    assert isinstance(ended, SubscriptionEnded)
    assert (ended.tier_name, ended.reason) == ("enterprise", "unpaid")
    assert await days.go_by(40) == []


async def test_what_a_payment_provider_collects_is_not_due() -> None:
    payer = Payer(FIRM, is_organisation=True, provider="stripe", customer="c", subscription="s")
    days = Days(HELD, payer)
    assert await days.go_by(1) == []
    assert [type(event) for event in await days.go_by(9)] == [PaymentOverdue]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"state": State.TRIALING}, "trial_over"),
        ({"cancels": True}, "cancelled"),
    ],
)
async def test_why_a_tier_ended_is_told(parts: dict[str, object], reason: str) -> None:
    [ended] = await Days(replace(HELD, **parts)).go_by(3)  # type: ignore[arg-type]
    assert isinstance(ended, SubscriptionEnded)
    assert ended.reason == reason
