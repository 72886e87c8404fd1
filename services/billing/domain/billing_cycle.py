"""What becomes of a subscription, by a wish, a payment or the clock, and what is charged for it.

Every function answers a `Step` and touches nothing: a moment, the prices and the rules come in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from services.billing.domain.calendar import months_after, next_after, whole_second
from services.billing.domain.charge import Charge, ChargeId, ChargeKind
from services.billing.domain.errors import (
    NothingToCancel,
    NothingToResume,
    PaymentOutstanding,
    TooManyTrialSeats,
    TrialNotOffered,
    TrialUsed,
)
from services.billing.domain.plan_price import PlanPrices, UnitPrice
from services.billing.domain.proration import rest_of
from services.billing.domain.subscription import State, Subscription
from shared.ids import UserId, uuid7
from shared.tiers import DEFAULT_TIER, Tier
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator decides: when a payment is tried again, how long the tier holds without
    one, how long a trial lasts (none: there are no trials), for how many seats, and how long a
    transfer may take until it pays what the wish costs by then."""

    retries_after: tuple[timedelta, ...] = tuple(timedelta(days=day) for day in (1, 3, 5, 7))
    grace: timedelta = timedelta(days=10)
    trial: timedelta | None = timedelta(days=14)
    trial_seats: int = 10
    order_stands: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Step:
    """A subscription after something happened, with its new charges. `retry`: ask for the payment
    again. `holds_until`: when it ends without the payment that it owes, where the clock has moved
    it or the payment could not be collected."""

    subscription: Subscription
    charges: tuple[Charge, ...] = ()
    retry: bool = False
    holds_until: datetime | None = None

    @property
    def amount_microusd(self) -> int:
        return sum(charge.amount_microusd for charge in self.charges)


class Course(Enum):
    """How a wish can be fulfilled."""

    NOTHING = "nothing"  # it is so already
    FREELY = "freely"  # at once, since nobody pays for it
    BUY = "buy"  # a new period
    UPGRADE = "upgrade"  # within the period, the difference is charged
    LATER = "later"  # from the next period on


def course_of(present: Subscription, tier: Tier, seats: int, unit: UnitPrice) -> Course:
    """How this wish can be fulfilled. Raises PaymentOutstanding."""
    same = (tier.name, seats) == (present.tier_name, present.seats)
    if _is_planned(present, tier, seats):
        return Course.NOTHING
    if same and present.state is not State.TRIALING:
        is_settled = not present.cancels and present.next_tier_name is None
        return Course.NOTHING if is_settled else Course.LATER
    if not present.is_paid:
        return _course_of_unpaid(present, tier, seats, unit)
    if not _is_more(present, tier, seats):
        return Course.LATER
    if present.owed_microusd:
        raise PaymentOutstanding(present.owed_microusd)
    if not present.price_microusd_per_month and unit.microusd:
        # Nothing is given back of a period that costs nothing, and nobody collects for it.
        return Course.BUY
    return Course.UPGRADE


def _course_of_unpaid(present: Subscription, tier: Tier, seats: int, unit: UnitPrice) -> Course:
    """What is not held already and is no gift has a period, also where it costs nothing by now: the
    next one has the price of its day."""
    if present.state is State.TRIALING:
        # A trial is not paid for, whatever its tier costs.
        return Course.LATER if tier == DEFAULT_TIER else Course.BUY
    # Nor is what was granted: a larger tier that an operator sells for less is not for nothing.
    is_dearer = unit.microusd * seats > present.price_microusd_per_month
    return Course.BUY if is_dearer or _is_more(present, tier, seats) else Course.FREELY


def _is_more(present: Subscription, tier: Tier, seats: int) -> bool:
    is_same = tier.name == present.tier_name
    return tier.rank > present.tier.rank or (is_same and seats > present.seats)


def _is_planned(present: Subscription, tier: Tier, seats: int) -> bool:
    if present.cancels:
        return tier == DEFAULT_TIER
    return (tier.name, seats) == (present.next_tier_name, present.next_seats)


def unit_price(present: Subscription, tier: Tier, at: datetime, prices: PlanPrices) -> UnitPrice:
    """What a seat costs whoever chooses the tier now: within the period of the same tier what it
    cost at its beginning."""
    held, version = present.unit_price_microusd, present.price_version
    if present.is_paid and tier.name == present.tier_name and held is not None and version:
        return UnitPrice(held, version)
    return prices.at(tier.name, at)


def bought(present: Subscription, tier: Tier, seats: int, unit: UnitPrice, at: datetime) -> Step:
    """A first period, paid for, from this moment on."""
    begins = whole_second(at)
    after = present.revised(
        at,
        tier_name=tier.name,
        seats=seats,
        state=State.ACTIVE,
        anchor=begins,
        period_begins=begins,
        period_ends=months_after(begins, 1),
        unit_price_microusd=unit.microusd,
        price_version=unit.version,
        next_tier_name=None,
        next_seats=None,
        cancels=False,
    )
    key = f"purchase/{after.user_id}/{after.revision}"
    return _step(after, [_fee(after, key, at)])


@dataclass(frozen=True, slots=True)
class Plan:
    """What the next period brings."""

    tier_name: str | None = None
    seats: int | None = None
    cancels: bool = False


_AS_NOW = Plan()
_NOTHING_OWED: Mapping[str, Any] = {"owed_microusd": 0, "unpaid_since": None, "dunning_step": 0}


def upgraded(
    present: Subscription,
    tier: Tier,
    seats: int,
    unit: UnitPrice,
    at: datetime,
    *,
    then: Plan = _AS_NOW,
) -> Step:
    """More within the period: the rest of it is given back at the old terms and charged at the new
    ones. What was to change at its end is forgotten, but for `then`; where the period is owed, the
    difference is owed with it."""
    begins, ends = _period(present)
    moment = min(max(whole_second(at), begins), ends)
    after = present.revised(
        at,
        tier_name=tier.name,
        seats=seats,
        unit_price_microusd=unit.microusd,
        price_version=unit.version,
        next_tier_name=then.tier_name,
        next_seats=then.seats,
        cancels=then.cancels,
    )
    credit = -rest_of(present.price_microusd_per_month, begins, moment, ends)
    debit = rest_of(after.price_microusd_per_month, begins, moment, ends)
    if present.owed_microusd:
        after = _owing(after, present.owed_microusd + credit + debit)
    key = f"change/{after.user_id}/{after.revision}"
    return _step(
        after,
        [
            _line(
                present, ChargeKind.PRORATION_CREDIT, credit, (moment, ends), f"{key}/credit", at
            ),
            _line(after, ChargeKind.PRORATION_DEBIT, debit, (moment, ends), f"{key}/debit", at),
        ],
    )


def scheduled(present: Subscription, tier: Tier, seats: int, at: datetime) -> Step:
    """Other terms from the next period on; the present ones again takes a plan back."""
    if (tier.name, seats) == (present.tier_name, present.seats):
        after = present.revised(at, next_tier_name=None, next_seats=None, cancels=False)
    elif tier == DEFAULT_TIER:
        return cancelled(present, at)
    else:
        after = present.revised(at, next_tier_name=tier.name, next_seats=seats, cancels=False)
    return _step(after)


def tried(
    present: Subscription,
    tier: Tier,
    seats: int,
    rules: Rules,
    at: datetime,
    *,
    had_one: bool = False,
) -> Step:
    """A trial: the tier for a while, once for whoever holds it and once for who begins it
    (`had_one`). Raises TrialUsed, TooManyTrialSeats or TrialNotOffered."""
    if rules.trial is None or tier == DEFAULT_TIER:
        raise TrialNotOffered
    if present.trial_used_at is not None or present.tier_name != DEFAULT_TIER.name or had_one:
        raise TrialUsed
    if seats > rules.trial_seats:
        raise TooManyTrialSeats(rules.trial_seats)
    begins = whole_second(at)
    return _step(
        present.revised(
            at,
            tier_name=tier.name,
            seats=seats,
            state=State.TRIALING,
            period_begins=begins,
            period_ends=begins + rules.trial,
            trial_used_at=at,
            cancels=False,
        )
    )


def cancelled(present: Subscription, at: datetime) -> Step:
    """It ends with its period: what is paid for holds until then. What is not paid for, or was
    granted, ends at once. Raises NothingToCancel."""
    if present.tier_name == DEFAULT_TIER.name or present.cancels:
        raise NothingToCancel
    if present.period_ends is None or present.state is State.PAST_DUE:
        return ended(present, at)
    return _step(present.revised(at, cancels=True, next_tier_name=None, next_seats=None))


def ending(present: Subscription, at: datetime) -> Step:
    """It ends with its period, or with the grace of what it owes: so a payment provider tells, and
    may tell otherwise. What was planned comes back then."""
    return _step(present.revised(at, cancels=True))


def resumed(present: Subscription, at: datetime) -> Step:
    """A cancellation taken back before it took effect. Raises NothingToResume."""
    if not present.cancels:
        raise NothingToResume
    return _step(present.revised(at, cancels=False))


def granted(present: Subscription, tier_name: str, seats: int | None, at: datetime) -> Step:
    """Given without a payment: the rest of a paid period is given back."""
    after = present.changed_to(tier_name, seats, at)
    if after is present:
        return Step(present)
    return Step(after, _settlement(present, after.revision, at))


def ended(present: Subscription, at: datetime) -> Step:
    """The free tier from now on; periods that nobody paid for are written off."""
    after = present.without_period(tier_name=DEFAULT_TIER.name, seats=1, state=State.ENDED, at=at)
    return Step(after, _write_off(present, after.revision, at))


def paid(present: Subscription, at: datetime) -> Step:
    """What was owed has come; when nothing was, the next period is paid for already."""
    if not present.owed_microusd:
        return Step(replace(present, paid_ahead=present.paid_ahead + 1))
    settled = replace(present, **_NOTHING_OWED)
    if present.state is State.PAST_DUE:
        settled = settled.revised(at, state=State.ACTIVE)
    return _step(settled)


def payment_failed(present: Subscription, at: datetime) -> Step:
    """The payment provider could not collect what is owed."""
    if not present.owed_microusd or present.state is State.PAST_DUE:
        return Step(present)
    return _step(present.revised(at, state=State.PAST_DUE))


def brought_up_to(present: Subscription, now: datetime, prices: PlanPrices, rules: Rules) -> Step:
    """Everything that the clock has brought meanwhile, in its order, each thing once.

    After a standstill each period that was held is charged. The days until a retry and of the grace
    count from when we asked, so that nobody loses a tier for our standstill.
    """
    charges: list[Charge] = []
    retry = False
    current = present
    while current.next_step_at is not None and current.next_step_at <= now:
        step = _next_step(current, now, prices, rules)
        current = step.subscription
        charges += step.charges
        retry = retry or step.retry
    return Step(
        current, tuple(charges), retry and current.owed_microusd > 0, held_until(current, rules)
    )


def held_until(present: Subscription, rules: Rules) -> datetime | None:
    """When it ends without the payment that it owes, if it owes any."""
    if not present.owed_microusd or present.unpaid_since is None:
        return None
    return present.unpaid_since + rules.grace


def _next_step(present: Subscription, now: datetime, prices: PlanPrices, rules: Rules) -> Step:
    asked = present.unpaid_since
    if present.owed_microusd and asked is not None:
        if asked + rules.grace <= now:
            return ended(present, now)
        if present.next_step_at != present.period_ends:
            step = replace(present, dunning_step=present.dunning_step + 1)
            if present.state is not State.PAST_DUE:
                step = step.revised(now, state=State.PAST_DUE)
            return replace(_step(step, rules=rules), retry=True)
    if present.state is State.TRIALING or present.cancels:
        return ended(present, now)
    return _renewed(present, now, prices, rules)


def _renewed(present: Subscription, now: datetime, prices: PlanPrices, rules: Rules) -> Step:
    _begins, ends = _period(present)
    assert present.anchor is not None
    tier_name = present.next_tier_name or present.tier_name
    seats = present.next_seats or present.seats
    unit = prices.at(tier_name, ends)
    fee = unit.microusd * seats
    is_paid = present.paid_ahead > 0 or fee == 0
    terms: dict[str, Any] = {
        "period_begins": ends,
        "period_ends": next_after(present.anchor, ends),
        "unit_price_microusd": unit.microusd,
        "price_version": unit.version,
        "paid_ahead": max(0, present.paid_ahead - 1),
        "owed_microusd": present.owed_microusd + (0 if is_paid else fee),
        "unpaid_since": present.unpaid_since or (None if is_paid else whole_second(now)),
    }
    if present.next_tier_name is None:
        after = replace(present, **terms)
    else:
        after = present.revised(
            now, tier_name=tier_name, seats=seats, next_tier_name=None, next_seats=None, **terms
        )
        # Decided when it was planned, and not by the clock.
        decided = present.plan_revision
        after = replace(
            after,
            terms_revision=decided,
            plan_revision=decided,
            planned_at=present.planned_at,
        )
    key = f"renewal/{after.user_id}/{ends.isoformat()}"
    return _step(after, [_fee(after, key, now)], rules=rules)


def _settlement(present: Subscription, revision: int, at: datetime) -> tuple[Charge, ...]:
    """What is given back when a paid period is cut short."""
    if not present.is_paid:
        return ()
    if present.owed_microusd:
        return _write_off(present, revision, at)
    begins, ends = _period(present)
    moment = min(max(whole_second(at), begins), ends)
    credit = -rest_of(present.price_microusd_per_month, begins, moment, ends)
    key = f"change/{present.user_id}/{revision}/credit"
    kind = ChargeKind.PRORATION_CREDIT
    return _worth_a_line([_line(present, kind, credit, (moment, ends), key, at)])


def _owing(after: Subscription, microusd: int) -> Subscription:
    """With another sum owed; none, where the new terms cost that much less."""
    if microusd > 0:
        return replace(after, owed_microusd=microusd)
    state = State.ACTIVE if after.state is State.PAST_DUE else after.state
    return replace(after, state=state, **_NOTHING_OWED)


def _write_off(present: Subscription, revision: int, at: datetime) -> tuple[Charge, ...]:
    if not present.owed_microusd:
        return ()
    key = f"write-off/{present.user_id}/{revision}"
    amount = -present.owed_microusd
    return (_line(present, ChargeKind.WRITE_OFF, amount, _period(present), key, at),)


def _step(after: Subscription, charges: Sequence[Charge] = (), rules: Rules | None = None) -> Step:
    if rules is None and after.owed_microusd:
        # A wish moves no deadline of what is owed.
        return Step(after, _worth_a_line(charges))
    timed = replace(after, next_step_at=_next_moment(after, rules or Rules()))
    return Step(timed, _worth_a_line(charges))


def _worth_a_line(charges: Sequence[Charge]) -> tuple[Charge, ...]:
    return tuple(charge for charge in charges if charge.amount_microusd)


def _next_moment(subscription: Subscription, rules: Rules) -> datetime | None:
    moments = [subscription.period_ends] if subscription.period_ends else []
    if subscription.owed_microusd and subscription.unpaid_since:
        retries = [after for after in rules.retries_after if after < rules.grace]
        waits = [*retries, rules.grace]
        step = min(subscription.dunning_step, len(waits) - 1)
        moments.append(subscription.unpaid_since + waits[step])
    return min(moments, default=None)


def _period(subscription: Subscription) -> tuple[datetime, datetime]:
    assert subscription.period_begins is not None
    assert subscription.period_ends is not None
    return subscription.period_begins, subscription.period_ends


def _fee(subscription: Subscription, key: str, at: datetime) -> Charge:
    amount = subscription.price_microusd_per_month
    span = _period(subscription)
    return _line(subscription, ChargeKind.PERIOD_FEE, amount, span, key, at)


def _line(
    terms: Subscription,
    kind: ChargeKind,
    amount: int,
    span: tuple[datetime, datetime],
    key: str,
    at: datetime,
) -> Charge:
    return Charge(
        id=ChargeId(uuid7()),
        holder=UserId(terms.user_id),
        is_organisation=terms.is_organisation,
        kind=kind,
        tier_name=terms.tier_name,
        seats=terms.seats,
        unit_price_microusd=terms.unit_price_microusd or 0,
        price_version=terms.price_version or "",
        begins=span[0],
        ends=span[1],
        amount_microusd=amount,
        effect_key=key,
        revision=terms.revision,
        charged_at=at,
    )
