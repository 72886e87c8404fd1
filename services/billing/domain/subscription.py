"""Which tier a user has, and what may become of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any, Self
from uuid import UUID

from services.billing.domain.errors import OneSeatOnly, UnknownTier
from shared.ids import UserId
from shared.tiers import DEFAULT_TIER, TIERS, Tier, tier_named
from shared.values import dataclass


class State(Enum):
    """Where a subscription stands."""

    NONE = "none"  # nothing was ever chosen
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"  # not paid for; the tier holds through the grace
    CANCELLED = "cancelled"  # shown of one that ends with its period
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose subscription it is: a user's own, or an organisation's."""

    id: UserId
    is_organisation: bool = False


@dataclass(frozen=True, slots=True)
class Subscription:
    """A tier and its seats. `revision` counts the changes, so that a listener who hears of two
    keeps the later one. An organisation's is kept like a user's, under the organisation's id.

    `tier_name` and `seats` are what is held now. One that is paid for has a period; one that was
    granted has none.
    """

    user_id: UserId
    tier_name: str
    seats: int = 1
    revision: int = 0
    changed_at: datetime | None = None
    is_organisation: bool = False
    state: State = State.NONE
    anchor: datetime | None = None  # the purchase; every period begins so many months after it
    period_begins: datetime | None = None
    period_ends: datetime | None = None
    unit_price_microusd: int | None = None  # as at the purchase, until the next period
    price_version: str | None = None
    next_tier_name: str | None = None  # from the next period on
    next_seats: int | None = None
    cancels: bool = False  # at the end of the period
    trial_used_at: datetime | None = None
    paid_ahead: int = 0  # payments for periods that have yet to begin
    owed_microusd: int = 0
    unpaid_since: datetime | None = None  # when it was asked for
    dunning_step: int = 0
    next_step_at: datetime | None = None  # when the clock has something to do here
    terms_revision: int = 0  # the last one that brought another tier, other seats or an end
    plan_revision: int = 0  # the last one that decided what the next period brings
    planned_at: datetime | None = None  # when that was decided, here or at a payment provider's

    @classmethod
    def initial(cls, user_id: UserId, *, is_organisation: bool = False) -> Self:
        """What everybody has who never chose."""
        return cls(user_id, DEFAULT_TIER.name, is_organisation=is_organisation)

    @property
    def holder(self) -> Holder:
        return Holder(self.user_id, self.is_organisation)

    @property
    def organisation_id(self) -> UUID | None:
        """The organisation that has it; None for a user's own."""
        return self.user_id if self.is_organisation else None

    @property
    def tier(self) -> Tier:
        return tier_named(self.tier_name)

    @property
    def shown_state(self) -> State:
        """Its state in the words that users know."""
        if self.cancels and self.state in (State.ACTIVE, State.TRIALING):
            return State.CANCELLED
        return self.state

    @property
    def price_microusd_per_month(self) -> int:
        if self.unit_price_microusd is not None:
            return self.unit_price_microusd * self.seats
        return self.tier.price_microusd_per_seat_month * self.seats

    @property
    def is_paid(self) -> bool:
        """Whether it has a period that is sold, not tried."""
        return self.period_ends is not None and self.state is not State.TRIALING

    def wanted(self, tier_name: str, seats: int | None) -> tuple[Tier, int]:
        """A wish in full: without `seats` they stay as they are, where the tier has more than one.

        Raises UnknownTier or OneSeatOnly.
        """
        tier = TIERS.get(tier_name)
        if tier is None:
            raise UnknownTier(TIERS)
        if seats is None:
            seats = self.seats if tier.many_seats else 1
        if seats > 1 and not tier.many_seats:
            raise OneSeatOnly(tier.name)
        return tier, seats

    def changed_to(self, tier_name: str, seats: int | None, at: datetime) -> Self:
        """With another tier or other seats at once, without a period; itself when nothing differs.

        Raises UnknownTier or OneSeatOnly.
        """
        tier, seats = self.wanted(tier_name, seats)
        if (tier.name, seats) == (self.tier_name, self.seats) and self.period_ends is None:
            return self
        state = State.ENDED if tier == DEFAULT_TIER else State.ACTIVE
        return self.without_period(tier_name=tier.name, seats=seats, state=state, at=at)

    def without_period(self, *, tier_name: str, seats: int, state: State, at: datetime) -> Self:
        """Held for nothing from now on."""
        return self.revised(
            at,
            tier_name=tier_name,
            seats=seats,
            state=state,
            anchor=None,
            period_begins=None,
            period_ends=None,
            unit_price_microusd=None,
            price_version=None,
            next_tier_name=None,
            next_seats=None,
            cancels=False,
            owed_microusd=0,
            unpaid_since=None,
            dunning_step=0,
            next_step_at=None,
        )

    def revised(self, at: datetime, **changes: Any) -> Self:
        """One revision further."""
        after = replace(self, revision=self.revision + 1, changed_at=at, **changes)
        if _terms(after) != _terms(self):
            after = replace(after, terms_revision=after.revision)
        if _plan(after) != _plan(self):
            after = replace(after, plan_revision=after.revision, planned_at=at)
        return after


def _terms(of: Subscription) -> tuple[object, ...]:
    return of.tier_name, of.seats, of.anchor, of.period_ends is None


def _plan(of: Subscription) -> tuple[object, ...]:
    return of.next_tier_name, of.next_seats, of.cancels
