"""Write down what became of a subscription, and tell it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from services.billing.domain.billing_cycle import Rules, Step, brought_up_to
from services.billing.domain.payment import BY_HAND, Payment, PaymentId, PaymentKind, PaymentState
from services.billing.domain.plan_price import PlanPrices
from services.billing.domain.ports import UnitOfWork
from services.billing.domain.subscription import Holder, State, Subscription
from shared.events import Event
from shared.events.payment import PaymentDue, PaymentOverdue
from shared.events.subscription import SubscriptionChanged, SubscriptionEnded
from shared.ids import UserId, uuid7
from shared.tiers import DEFAULT_TIER


async def look_up(
    work: UnitOfWork, holder: Holder, now: datetime, rules: Rules
) -> tuple[Subscription, PlanPrices]:
    """The subscription as it is at this moment, whether or not the clock has come by, and the
    prices; only to look at."""
    prices = await work.plan_prices.all()
    present = await work.subscriptions.get(holder.id)
    if present is None:
        return Subscription.initial(holder.id, is_organisation=holder.is_organisation), prices
    return brought_up_to(present, now, prices, rules).subscription, prices


async def take_up(
    work: UnitOfWork, holder: Holder, now: datetime, rules: Rules
) -> tuple[Subscription, PlanPrices]:
    """The same, held until the work ends, with what the clock has brought written down."""
    prices = await work.plan_prices.all()
    present = await work.subscriptions.hold(holder.id, is_organisation=holder.is_organisation)
    return await _brought_up(work, present, now, prices, rules), prices


async def take_up_kept(
    work: UnitOfWork, holder: UserId, now: datetime, rules: Rules
) -> Subscription | None:
    """The same of who has one already. None of a user who was deleted since, or an organisation
    that is gone: what comes late makes them no other."""
    prices = await work.plan_prices.all()
    present = await work.subscriptions.hold_kept(holder)
    return None if present is None else await _brought_up(work, present, now, prices, rules)


async def _brought_up(
    work: UnitOfWork, present: Subscription, now: datetime, prices: PlanPrices, rules: Rules
) -> Subscription:
    step = brought_up_to(present, now, prices, rules)
    await keep_step(work, present, step, by=present.user_id)
    return step.subscription


async def keep_step(work: UnitOfWork, before: Subscription, step: Step, *, by: UserId) -> None:
    """One step of one subscription."""
    await keep_steps(work, [(before, step)], by=by)


async def keep_steps(
    work: UnitOfWork,
    steps: Iterable[tuple[Subscription, Step]],
    *,
    by: UserId | None = None,
) -> None:
    """Many at once; without `by` each holder's own clock is the reason."""
    moved = [(before, step) for before, step in steps if step.subscription != before]
    quiet = [s.subscription for b, s in moved if s.subscription.revision == b.revision]
    await work.subscriptions.keep_terms(quiet)
    await work.charges.add([charge for _, step in moved for charge in step.charges])
    for before, step in moved:
        after = step.subscription
        if after.revision != before.revision:
            await work.subscriptions.save(after, by=by or after.user_id)
            await _tell(work, after, by or after.user_id)
        if after.owed_microusd != before.owed_microusd:
            await ask_for_owed(work, after)
        await tell_who_pays(work, before, step)


async def _tell(work: UnitOfWork, after: Subscription, by: UserId) -> None:
    event = SubscriptionChanged(
        user_id=by if after.is_organisation else after.user_id,
        tier_name=after.tier_name,
        seats=after.seats,
        revision=after.revision,
        organisation_id=after.organisation_id,
        next_seats=after.next_seats,
    )
    work.publish(event, subject=after.user_id, tier=after.tier_name)
    facts = {
        "organisation_id": after.organisation_id,
        "user_id": None if after.is_organisation else after.user_id,
        "tier": after.tier_name,
        "seats": after.seats,
        "revision": after.revision,
        "state": after.shown_state.value,
        "period_ends": after.period_ends,
    }
    await work.webhooks.tell(
        after.user_id,
        event.type,
        facts,
        effect_key=f"subscription/{after.user_id}/{after.revision}",
    )


async def tell_who_pays(work: UnitOfWork, before: Subscription, step: Step) -> None:
    """What those hear by mail who pay: once each, since each comes with a step of its own.

    What a payment provider collects by itself is not due, but may be overdue.
    """
    after = step.subscription
    told: list[Event] = []
    owes_more = after.owed_microusd > before.owed_microusd
    if owes_more and not await _is_collected(work, after):
        told.append(
            PaymentDue(
                holder_id=after.user_id,
                is_organisation=after.is_organisation,
                tier_name=after.tier_name,
                amount_microusd=after.owed_microusd,
                holds_until=step.holds_until,
            )
        )
    if after.state is State.PAST_DUE and before.state is not State.PAST_DUE:
        told.append(
            PaymentOverdue(
                holder_id=after.user_id,
                is_organisation=after.is_organisation,
                tier_name=after.tier_name,
                amount_microusd=after.owed_microusd,
                holds_until=step.holds_until,
            )
        )
    if after.state is State.ENDED and before.tier != DEFAULT_TIER:
        told.append(
            SubscriptionEnded(
                holder_id=after.user_id,
                is_organisation=after.is_organisation,
                tier_name=before.tier_name,
                reason=_why_ended(before),
            )
        )
    for event in told:
        work.publish(event, subject=after.user_id, tier=after.tier_name)


async def _is_collected(work: UnitOfWork, subscription: Subscription) -> bool:
    payer = await work.payments.payer(subscription.user_id)
    return payer is not None and payer.provider != BY_HAND and payer.subscription is not None


def _why_ended(before: Subscription) -> str:
    if before.owed_microusd:
        return "unpaid"
    if before.state is State.TRIALING and not before.cancels:
        return "trial_over"
    return "cancelled" if before.cancels else "ended"


async def ask_for_owed(work: UnitOfWork, after: Subscription) -> None:
    """One open payment for all that is owed; none when nothing is."""
    known = await work.payments.open_of(after.user_id, PaymentKind.RENEWAL)
    if known is not None:
        state = PaymentState.OPEN if after.owed_microusd else PaymentState.VOID
        amount = after.owed_microusd or known.amount_microusd
        await work.payments.save(replace(known, state=state, amount_microusd=amount))
    elif after.owed_microusd and after.unpaid_since:
        payer = await work.payments.payer(after.user_id)
        await work.payments.add(
            Payment(
                id=PaymentId(uuid7()),
                holder=after.user_id,
                is_organisation=after.is_organisation,
                kind=PaymentKind.RENEWAL,
                state=PaymentState.OPEN,
                provider=payer.provider if payer is not None else BY_HAND,
                amount_microusd=after.owed_microusd,
                asked_by=after.user_id,
                created_at=after.unpaid_since,
                tier_name=after.tier_name,
                seats=after.seats,
                unit_price_microusd=after.unit_price_microusd,
                price_version=after.price_version,
            )
        )
