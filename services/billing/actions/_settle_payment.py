"""What a payment brings about, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from services.billing.actions._keep_subscription import keep_step, take_up
from services.billing.domain.billing_cycle import (
    Course,
    Rules,
    Step,
    bought,
    course_of,
    paid,
    upgraded,
)
from services.billing.domain.errors import PaymentNotFound, PaymentOutstanding
from services.billing.domain.payment import Payment, PaymentId, PaymentState
from services.billing.domain.plan_price import UnitPrice
from services.billing.domain.ports import UnitOfWork
from services.billing.domain.subscription import Holder, Subscription
from shared.ids import UserId
from shared.tiers import TIERS

# A wish that another took the place of can still be paid: then it counts.
PAYABLE = (PaymentState.OPEN, PaymentState.VOID, PaymentState.FAILED)


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
    """The change that was paid for takes effect; None for one that was settled before.

    `received_microusd`: what has come, as far as somebody knows, in place of what was asked for.
    `provider`: to whom, where it is not who was asked to collect. Raises PaymentNotFound.
    """
    seen = await work.payments.get(order_id)
    if seen is None:
        raise PaymentNotFound(order_id)
    present, _prices = await take_up(work, _holder(seen), now, rules)
    order = await work.payments.hold(order_id)
    if order is None or order.state not in PAYABLE:
        return None
    step = _fulfilled(order, present, now)
    state = PaymentState.PAID if step is not None else PaymentState.UNUSED
    await work.payments.save(_received(order.settled(state, now), received_microusd, provider))
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
    present, _prices = await take_up(work, _holder(seen), now, rules)
    payment = await work.payments.hold(payment_id)
    if payment is None or payment.state is not PaymentState.OPEN:
        return None
    settled = payment.settled(PaymentState.PAID, now)
    await work.payments.save(_received(settled, received_microusd, provider))
    step = paid(present, now)
    await keep_step(work, present, step, by=by)
    return step.subscription


def _received(settled: Payment, microusd: int | None, provider: str | None) -> Payment:
    amount = settled.amount_microusd if microusd is None else microusd
    return replace(settled, amount_microusd=amount, provider=provider or settled.provider)


def _holder(payment: Payment) -> Holder:
    return Holder(payment.holder, payment.is_organisation)


def _fulfilled(order: Payment, present: Subscription, now: datetime) -> Step | None:
    """None when nothing is left to change: it was paid twice, or somebody chose more meanwhile."""
    tier = TIERS.get(order.tier_name or "")
    if tier is None or order.seats is None or order.unit_price_microusd is None:
        return None
    unit = UnitPrice(order.unit_price_microusd, order.price_version or "")
    try:
        course = course_of(present, tier, order.seats, unit)
    except PaymentOutstanding:
        return None
    if course is Course.BUY:
        return bought(present, tier, order.seats, unit, now)
    if course is Course.UPGRADE:
        return upgraded(present, tier, order.seats, unit, now)
    return None
