"""What a payment brings about, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from services.billing.actions._keep_subscription import keep_step, take_up_kept
from services.billing.domain.billing_cycle import (
    Course,
    Rules,
    Step,
    bought,
    course_of,
    paid,
    unit_price,
    upgraded,
)
from services.billing.domain.errors import PaymentNotFound, PaymentOutstanding
from services.billing.domain.payment import BY_HAND, Payment, PaymentId, PaymentState
from services.billing.domain.plan_price import PlanPrices, UnitPrice
from services.billing.domain.ports import UnitOfWork
from services.billing.domain.subscription import Subscription
from shared.ids import UserId
from shared.tiers import TIERS, Tier

# A wish that another took the place of can still be paid: then it counts.
PAYABLE = (PaymentState.OPEN, PaymentState.VOID, PaymentState.FAILED)

# A transfer takes days; whoever takes longer pays what it costs by then.
_A_SUM_STANDS = timedelta(days=30)


async def settle_order(
    work: UnitOfWork,
    order_id: PaymentId,
    now: datetime,
    rules: Rules,
    *,
    by: UserId,
    received_microusd: int | None = None,
    provider: str | None = None,
) -> Step | None:
    """The change that was paid for takes effect, unless it costs more by now; None for one that was
    settled before.

    `received_microusd`: what has come, as far as somebody knows, in place of what was asked for.
    `provider`: to whom, where it is not who was asked to collect. Raises PaymentNotFound.
    """
    seen = await work.payments.get(order_id)
    if seen is None:
        raise PaymentNotFound(order_id)
    present = await take_up_kept(work, seen.holder, now, rules)
    order = await work.payments.hold(order_id)
    if order is None or order.state not in PAYABLE:
        return None
    step = None
    if present is not None:
        by_hand = BY_HAND in (provider, order.provider)
        prices = await work.plan_prices.all()
        step = _fulfilled(order, present, now, prices, by_hand=by_hand)
    state = PaymentState.PAID if step is not None else PaymentState.UNUSED
    await work.payments.save(_received(order.settled(state, now), received_microusd, provider))
    if present is None:
        return Step(Subscription.initial(seen.holder, is_organisation=seen.is_organisation))
    if step is None:
        return Step(present)
    await keep_step(work, present, step, by=by)
    return step


async def settle_renewal(
    work: UnitOfWork,
    payment_id: PaymentId,
    now: datetime,
    rules: Rules,
    *,
    by: UserId,
    received_microusd: int | None = None,
    provider: str | None = None,
) -> Subscription | None:
    """What was owed is paid; None when nobody waits for this payment any more."""
    seen = await work.payments.get(payment_id)
    if seen is None:
        return None
    present = await take_up_kept(work, seen.holder, now, rules)
    payment = await work.payments.hold(payment_id)
    if payment is None or payment.state is not PaymentState.OPEN:
        return None
    state = PaymentState.PAID if present is not None else PaymentState.UNUSED
    await work.payments.save(_received(payment.settled(state, now), received_microusd, provider))
    if present is None:
        return Subscription.initial(seen.holder, is_organisation=seen.is_organisation)
    step = paid(present, now)
    await keep_step(work, present, step, by=by)
    return step.subscription


def _received(settled: Payment, microusd: int | None, provider: str | None) -> Payment:
    amount = settled.amount_microusd if microusd is None else microusd
    return replace(settled, amount_microusd=amount, provider=provider or settled.provider)


def _fulfilled(
    order: Payment, present: Subscription, now: datetime, prices: PlanPrices, *, by_hand: bool
) -> Step | None:
    """None when nothing is left to change (it was paid twice, or somebody chose more meanwhile), or
    when less was asked for than it costs now: both are for the billing team."""
    tier = TIERS.get(order.tier_name or "")
    if tier is None or order.seats is None or order.unit_price_microusd is None:
        return None
    if not _is_late(order, present, now, by_hand=by_hand):
        asked = UnitPrice(order.unit_price_microusd, order.price_version or "")
        return _changed(present, tier, order.seats, asked, now)
    step = _changed(present, tier, order.seats, unit_price(present, tier, now, prices), now)
    if step is None or step.amount_microusd > order.amount_microusd:
        return None
    return step


def _is_late(order: Payment, present: Subscription, now: datetime, *, by_hand: bool) -> bool:
    """Whether its sum says nothing of what it costs now. What a payment provider collects for an
    open order it goes on collecting, also when the next period has begun meanwhile."""
    if order.state is PaymentState.VOID or _precedes(order, present.changed_at):
        return True
    is_old = _precedes(order, present.period_begins) or now - order.created_at > _A_SUM_STANDS
    return by_hand and is_old


def _precedes(order: Payment, moment: datetime | None) -> bool:
    return moment is not None and order.created_at < moment


def _changed(
    present: Subscription, tier: Tier, seats: int, unit: UnitPrice, now: datetime
) -> Step | None:
    try:
        course = course_of(present, tier, seats, unit)
    except PaymentOutstanding:
        return None
    if course is Course.BUY:
        return bought(present, tier, seats, unit, now)
    if course is Course.UPGRADE:
        return upgraded(present, tier, seats, unit, now)
    return None
