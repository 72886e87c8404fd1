"""Another tier, or other seats."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from services.billing.actions._keep_subscription import keep_step, look_up, take_up
from services.billing.actions._settle_payment import settle_order
from services.billing.actions.show_organisation_subscription import ensure_may_decide
from services.billing.domain.billing_cycle import (
    Course,
    Rules,
    Step,
    bought,
    course_of,
    granted,
    scheduled,
    tried,
    unit_price,
    upgraded,
)
from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.charge import Charge
from services.billing.domain.errors import (
    PaymentDeclined,
    PaymentsUnavailable,
    SeatsAssigned,
    SubscriptionNotFound,
    SubscriptionNotPaid,
)
from services.billing.domain.payment import (
    Payer,
    Payment,
    PaymentId,
    PaymentKind,
    PaymentState,
    Wish,
)
from services.billing.domain.plan_price import PlanPrices, UnitPrice
from services.billing.domain.ports import NewUnitOfWork, Organisations, Payments, UnitOfWork
from services.billing.domain.subscription import Holder, Subscription
from services.billing.domain.tax import TaxRules, gross_of
from shared.clock import Clock
from shared.ids import UserId, uuid7
from shared.tiers import DEFAULT_TIER, Tier
from shared.values import dataclass

# Shorter than the day that a payment provider's checkout page lives.
_AN_ORDER_STANDS = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody chooses; without `seats` they stay as they are."""

    tier_name: str
    seats: int | None = None
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became, or would become, of a choice: the subscription then, from when on, and what is
    charged for it. With a `checkout_url` it waits for somebody to pay there."""

    subscription: Subscription
    effective_at: datetime
    charges: tuple[Charge, ...] = ()
    checkout_url: str | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a choice is fulfilled."""

    step: Step
    effective_at: datetime
    unit: UnitPrice
    course: Course = Course.FREELY

    @property
    def has_a_price(self) -> bool:
        return self.course in (Course.BUY, Course.UPGRADE) and self.step.amount_microusd > 0

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.step.subscription, self.effective_at, self.step.charges)


@dataclass(frozen=True, slots=True)
class ChangeSubscription:
    """Choose a tier and seats, for oneself or for an organisation.

    More takes effect at once, against payment; less from the next period on.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock
    organisations: Organisations
    payments: Payments
    rules: Rules
    tax: TaxRules

    async def preview(self, holder: Holder, wanted: Wanted, *, by: UserId) -> Outcome:
        """What the choice would do and cost now; nothing is written.

        Raises what the choice itself would raise, but for payments.
        """
        taken = await self._ensure_allowed(holder, by)
        now = self.clock.now()
        async with self.unit_of_work() as work:
            present, prices = await look_up(work, holder, now, self.rules)
            had_one = wanted.trial and await work.subscriptions.began_a_trial(by)
        return self._plan(present, wanted, now, prices, taken, had_trial=had_one).outcome

    async def __call__(self, holder: Holder, wanted: Wanted, *, by: UserId) -> Outcome:
        """Raises UnknownTier, OneSeatOnly, SeatsAssigned, TrialUsed, TrialNotOffered,
        TooManyTrialSeats, PaymentOutstanding, SubscriptionNotPaid, PaymentDeclined,
        PaymentsUnavailable, and for an organisation SubscriptionNotFound,
        OrganisationBillingRequired or DependencyUnavailable."""
        taken = await self._ensure_allowed(holder, by)
        now = self.clock.now()
        async with self.unit_of_work() as work:
            present, prices = await take_up(work, holder, now, self.rules)
            had_one = wanted.trial and await work.subscriptions.began_a_trial(by)
            plan = self._plan(present, wanted, now, prices, taken, had_trial=had_one)
            if not plan.has_a_price:
                await keep_step(work, present, plan.step, by=by)
                return plan.outcome
            order, replaced = await self._ordered(work, present, plan, by, now)
            payer = await work.payments.payer(holder.id)
            details = await work.details.of(holder.id)
        if replaced is not None and replaced.reference is not None:
            # Should the payment provider be away: whoever pays there as well is found by `UNUSED`.
            with suppress(PaymentsUnavailable):
                await self.payments.withdraw(replaced)
        return await self._collect(plan, order, payer, details, by)

    async def _ensure_allowed(self, holder: Holder, by: UserId) -> int:
        """Answers how many seats are taken, as far as that bounds anything."""
        await ensure_may_decide(self.organisations, holder, by)
        if not (holder.is_organisation and self.payments.asks_first):
            return 0
        return await self.organisations.seats_taken(holder.id, by) or 0

    def _plan(
        self,
        present: Subscription,
        wanted: Wanted,
        now: datetime,
        prices: PlanPrices,
        taken: int,
        *,
        had_trial: bool,
    ) -> _Plan:
        tier, seats = present.wanted(wanted.tier_name, wanted.seats)
        if tier != DEFAULT_TIER and seats < taken:
            raise SeatsAssigned(taken)
        unit = unit_price(present, tier, now, prices)
        if wanted.trial:
            step = tried(present, tier, seats, self.rules, now, had_one=had_trial)
            return _Plan(step, now, unit)
        if not self.payments.asks_first:
            return _Plan(granted(present, tier.name, seats, now), now, unit)
        course = course_of(present, tier, seats, unit)
        step = _fulfilled(course, present, tier, seats, unit, now)
        # What is overdue has no period to end with, and is over at once.
        ends = step.subscription.period_ends if course is Course.LATER else None
        return _Plan(step, ends or now, unit, course)

    async def _ordered(
        self, work: UnitOfWork, present: Subscription, plan: _Plan, by: UserId, now: datetime
    ) -> tuple[Payment, Payment | None]:
        """The order that waits for its payment, and the one whose place it took. The same wish
        again is the same order."""
        wanted = plan.step.subscription
        known = await work.payments.open_of(wanted.user_id, PaymentKind.ORDER)
        terms = (wanted.tier_name, wanted.seats, plan.unit.version, self.payments.name)
        if known is not None:
            same = (known.tier_name, known.seats, known.price_version, known.provider) == terms
            if same and self._stands(known, present, plan, now):
                return known, None
            await work.payments.void_open(wanted.user_id, now)
        order = Payment(
            id=PaymentId(uuid7()),
            holder=wanted.user_id,
            is_organisation=wanted.is_organisation,
            kind=PaymentKind.ORDER,
            state=PaymentState.OPEN,
            provider=self.payments.name,
            amount_microusd=plan.step.amount_microusd,
            asked_by=by,
            created_at=now,
            tier_name=wanted.tier_name,
            seats=wanted.seats,
            unit_price_microusd=plan.unit.microusd,
            price_version=plan.unit.version,
            base_revision=present.revision,
            base_terms_revision=present.terms_revision,
        )
        await work.payments.add(order)
        return order, known

    def _stands(self, order: Payment, present: Subscription, plan: _Plan, now: datetime) -> bool:
        if not self.payments.has_checkout:
            # A transfer takes days; what is left of a period costs less by then.
            if order.amount_microusd == plan.step.amount_microusd:
                return True
            if _is_of_other_terms(order, present):
                return False
        return now - order.created_at < _AN_ORDER_STANDS

    async def _collect(
        self,
        plan: _Plan,
        order: Payment,
        payer: Payer | None,
        details: BillingDetails | None,
        by: UserId,
    ) -> Outcome:
        # Nothing is held meanwhile: the payment provider is asked over the network, and takes its
        # time.
        pays_already = (
            payer is not None
            and payer.provider == self.payments.name
            and payer.subscription is not None
        )
        if plan.course is Course.UPGRADE and payer is not None and pays_already:
            return await self._collect_change(order, payer, by)
        if plan.course is Course.BUY and self.payments.has_checkout:
            return await self._check_out(plan, order, payer)
        wanted = plan.step.subscription
        raise SubscriptionNotPaid(
            wanted.tier_name,
            wanted.seats,
            wanted.price_microusd_per_month,
            payment_id=str(order.id),
            amount_microusd=order.amount_microusd,
            **self._with_tax(order, details),
        )

    def _with_tax(self, order: Payment, details: BillingDetails | None) -> dict[str, int]:
        """What to transfer: the invoice will have it."""
        gross = gross_of(self.tax, details, [order], order.created_at)
        return {
            "net_cents": gross.net_cents,
            "tax_cents": gross.tax_cents,
            "total_cents": gross.total_cents,
        }

    async def _collect_change(self, order: Payment, payer: Payer, by: UserId) -> Outcome:
        try:
            await self.payments.collect_change(order, payer)
        except PaymentDeclined:
            async with self.unit_of_work() as work:
                await work.payments.void_open(order.holder, self.clock.now())
            raise
        now = self.clock.now()
        async with self.unit_of_work() as work:
            step = await settle_order(work, order.id, now, self.rules, by=by)
            told = Wish(order.tier_name or "", order.seats or 1, ending=False)
            known = await work.payments.hold_payer(order.holder)
            if known is not None and known.subscription == payer.subscription:
                await work.payments.keep_payer(replace(known, told=told))
            if step is None:
                # The payment provider's news of it was here first.
                holder = Holder(order.holder, order.is_organisation)
                step = Step((await take_up(work, holder, now, self.rules))[0])
            return Outcome(step.subscription, now, step.charges)

    async def _check_out(self, plan: _Plan, order: Payment, payer: Payer | None) -> Outcome:
        if order.checkout_url is None:
            checkout = await self.payments.checkout(order, payer)
            async with self.unit_of_work() as work:
                held = await work.payments.hold(order.id)
                # A fast payer may have paid before we came to write this down.
                if held is not None and held.state is PaymentState.OPEN:
                    await work.payments.save(held.at_checkout(checkout))
            order = order.at_checkout(checkout)
        outcome = plan.outcome
        return Outcome(
            outcome.subscription, outcome.effective_at, outcome.charges, order.checkout_url
        )


def _is_of_other_terms(order: Payment, present: Subscription) -> bool:
    """Whether its sum is of what was held, or of a period that went on, before the present one."""
    begins = present.period_begins
    return order.is_of_other_terms(present) or (begins is not None and order.created_at < begins)


def _fulfilled(
    course: Course,
    present: Subscription,
    tier: Tier,
    seats: int,
    unit: UnitPrice,
    now: datetime,
) -> Step:
    if course is Course.NOTHING:
        return Step(present)
    if course is Course.FREELY:
        return granted(present, tier.name, seats, now)
    if course is Course.BUY:
        return bought(present, tier, seats, unit, now)
    if course is Course.UPGRADE:
        return upgraded(present, tier, seats, unit, now)
    return scheduled(present, tier, seats, now)


@dataclass(frozen=True, slots=True)
class GrantSubscription:
    """The billing team gives a user or an organisation a tier, paid for or not.

    Raises UnknownTier, OneSeatOnly, or SubscriptionNotFound for the id of the other kind.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock
    rules: Rules = Rules()

    async def __call__(
        self,
        holder: UserId,
        tier_name: str,
        seats: int | None,
        *,
        by: UserId,
        is_organisation: bool = False,
    ) -> Subscription:
        now = self.clock.now()
        wanted = Holder(holder, is_organisation)
        async with self.unit_of_work() as work:
            present, _prices = await take_up(work, wanted, now, self.rules)
            if present.is_organisation is not is_organisation:
                raise SubscriptionNotFound(holder)
            step = granted(present, tier_name, seats, now)
            await keep_step(work, present, step, by=by)
        return step.subscription
