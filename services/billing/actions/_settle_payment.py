"""What a payment brings about, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from services.billing.actions._keep_subscription import keep_step, take_up_kept
from services.billing.domain.billing_cycle import (
    Course,
    Plan,
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
from shared.values import dataclass

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
    by_hand = BY_HAND in (provider, order.provider)
    step, has_grown = None, not by_hand and await work.payments.has_grown(order)
    if present is not None and not has_grown:
        prices = await work.plan_prices.all()
        step = _Settling(order, present, now, prices, rules, by_hand).step()
    state = PaymentState.UNUSED if step is None and not has_grown else PaymentState.PAID
    await work.payments.save(_received(order.settled(state, now), received_microusd, provider))
    if state is PaymentState.PAID and not by_hand:
        await work.payments.use_grown(order)
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


@dataclass(frozen=True, slots=True)
class _Settling:
    """An order that was paid, and what it was paid for."""

    order: Payment
    present: Subscription
    now: datetime
    prices: PlanPrices
    rules: Rules
    by_hand: bool

    def step(self) -> Step | None:
        """None when nothing is left to change (it was paid twice, or somebody chose more
        meanwhile), or when less was asked for than it costs now: both are for the billing team."""
        tier = TIERS.get(self.order.tier_name or "")
        if tier is None or self.order.seats is None or self.order.unit_price_microusd is None:
            return None
        if not self._is_late:
            return self._changed(tier, self.order.seats, self._asked(tier))
        if self._is_told and self._is_of_other_terms:
            return None
        today = unit_price(self.present, tier, self.now, self.prices)
        step = self._changed(tier, self.order.seats, today)
        if step is None or step.amount_microusd > self.order.amount_microusd:
            return None
        return step

    @property
    def _is_late(self) -> bool:
        """Whether its sum says nothing of what it costs now. What a payment provider collects for
        an open order it goes on collecting, also when the next period has begun meanwhile."""
        order = self.order
        if order.state is PaymentState.VOID or self._is_of_other_terms:
            return True
        is_old = self.now - order.created_at > self.rules.order_stands
        return self.by_hand and (is_old or self._is_of_an_earlier_period)

    @property
    def _is_of_other_terms(self) -> bool:
        return self.order.is_of_other_terms(self.present)

    @property
    def _is_of_an_earlier_period(self) -> bool:
        begins = self.present.period_begins
        return begins is not None and self.order.created_at < begins

    def _asked(self, tier: Tier) -> UnitPrice:
        """The price that it was made at; in a later period, what that one began with."""
        begins = self.present.period_begins
        if begins is not None and self._is_of_an_earlier_period:
            return unit_price(self.present, tier, begins, self.prices)
        return UnitPrice(self.order.unit_price_microusd or 0, self.order.price_version or "")

    def _changed(self, tier: Tier, seats: int, unit: UnitPrice) -> Step | None:
        present, now = self.present, self.now
        try:
            course = course_of(present, tier, seats, unit)
        except PaymentOutstanding:
            # What a payment provider has changed within what it collects for, it asks for with the
            # renewal that is owed.
            is_asked_for = self._is_told and not self._is_late
            course = Course.UPGRADE if is_asked_for else Course.NOTHING
        if course is Course.BUY:
            return bought(present, tier, seats, unit, now)
        if course is Course.UPGRADE:
            return self._decided(upgraded(present, tier, seats, unit, now, then=self._then))
        if self._is_told and not self._is_late and present.is_paid:
            # Collected for less than an older change that was told before it.
            return self._decided(upgraded(present, tier, seats, unit, now, then=self._then))
        return None

    @property
    def _is_told(self) -> bool:
        """By a payment provider, of what it collects within what is paid by already."""
        return self.order.is_of_change and not self.by_hand

    @property
    def _then(self) -> Plan:
        """What was chosen after a change that a payment provider told of late holds from the next
        period on, as if the change had been told at once."""
        base, present = self.order.base_revision, self.present
        if self._is_told and base is not None and present.plan_revision > base:
            return Plan(present.next_tier_name, present.next_seats, present.cancels)
        return Plan()

    def _decided(self, step: Step) -> Step:
        """A change counts as decided when it was wished for, whenever it is told: of two that are
        told in the wrong order the later one stands."""
        base = self.order.base_revision
        if not self._is_told or base is None:
            return step
        decided = max(self.present.terms_revision, base)
        return replace(step, subscription=replace(step.subscription, terms_revision=decided))
