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
from services.billing.domain.subscription import State, Subscription
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
    """What was owed is paid, unless it was written off by now; None for one that was settled
    before."""
    seen = await work.payments.get(payment_id)
    if seen is None:
        return None
    present = await take_up_kept(work, seen.holder, now, rules)
    payment = await work.payments.hold(payment_id)
    if payment is None or payment.state not in (PaymentState.OPEN, PaymentState.VOID):
        return None
    is_waited_for = present is not None and payment.state is PaymentState.OPEN
    state = PaymentState.PAID if is_waited_for else PaymentState.UNUSED
    await work.payments.save(_received(payment.settled(state, now), received_microusd, provider))
    if present is None:
        return Subscription.initial(seen.holder, is_organisation=seen.is_organisation)
    if not is_waited_for:
        return present
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
        # What a payment provider has changed within what it collects for, it asks for with the
        # renewal that is owed.
        owing = not by_hand and order.checkout_url is None
        return _changed(present, tier, order.seats, asked, now, owing=owing)
    step = _changed(present, tier, order.seats, unit_price(present, tier, now, prices), now)
    if step is None or step.amount_microusd > order.amount_microusd:
        return None
    return step


def _is_late(order: Payment, present: Subscription, now: datetime, *, by_hand: bool) -> bool:
    """Whether its sum says nothing of what it costs now. What a payment provider collects for an
    open order it goes on collecting, also when the next period has begun meanwhile."""
    if order.state is PaymentState.VOID:
        return True
    if _precedes(order, present.changed_at) and (by_hand or not _is_only_dunned(order, present)):
        return True
    is_old = _precedes(order, present.period_begins) or now - order.created_at > _A_SUM_STANDS
    return by_hand and is_old


def _is_only_dunned(order: Payment, present: Subscription) -> bool:
    """Whether all that changed since is that a renewal could not be collected at once: more is not
    chosen meanwhile, and less would be planned."""
    is_planned = present.cancels or present.next_tier_name is not None
    return present.state is State.PAST_DUE and order.checkout_url is None and not is_planned


def _precedes(order: Payment, moment: datetime | None) -> bool:
    return moment is not None and order.created_at < moment


def _changed(
    present: Subscription,
    tier: Tier,
    seats: int,
    unit: UnitPrice,
    now: datetime,
    *,
    owing: bool = False,
) -> Step | None:
    """`owing`: also while a renewal is owed."""
    try:
        course = course_of(present, tier, seats, unit)
    except PaymentOutstanding:
        return upgraded(present, tier, seats, unit, now) if owing else None
    if course is Course.BUY:
        return bought(present, tier, seats, unit, now)
    if course is Course.UPGRADE:
        return upgraded(present, tier, seats, unit, now)
    return None
