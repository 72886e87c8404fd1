"""Which tier a user has, and what may become of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self
from uuid import UUID

from services.billing.domain.errors import OneSeatOnly, UnknownTier
from shared.ids import UserId
from shared.tiers import DEFAULT_TIER, TIERS, Tier, tier_named


@dataclass(frozen=True, slots=True)
class Subscription:
    """A tier and its seats. `revision` counts the changes, so that a listener who hears of two
    keeps the later one. An organisation's is kept like a user's, under the organisation's id."""

    user_id: UserId
    tier_name: str
    seats: int = 1
    revision: int = 0
    changed_at: datetime | None = None
    is_organisation: bool = False

    @classmethod
    def initial(cls, user_id: UserId, *, is_organisation: bool = False) -> Self:
        """What everybody has who never chose."""
        return cls(user_id, DEFAULT_TIER.name, is_organisation=is_organisation)

    @property
    def organisation_id(self) -> UUID | None:
        """The organisation that has it; None for a user's own."""
        return self.user_id if self.is_organisation else None

    @property
    def tier(self) -> Tier:
        return tier_named(self.tier_name)

    @property
    def price_microusd_per_month(self) -> int:
        return self.tier.price_microusd_per_seat_month * self.seats

    def changed_to(self, tier_name: str, seats: int | None, at: datetime) -> Self:
        """With another tier or other seats; itself when nothing differs.

        Without `seats` they stay as they are, where the tier has more than one. Raises UnknownTier
        or OneSeatOnly.
        """
        tier = TIERS.get(tier_name)
        if tier is None:
            raise UnknownTier(TIERS)
        if seats is None:
            seats = self.seats if tier.many_seats else 1
        if seats > 1 and not tier.many_seats:
            raise OneSeatOnly(tier.name)
        if (tier.name, seats) == (self.tier_name, self.seats):
            return self
        return replace(
            self, tier_name=tier.name, seats=seats, revision=self.revision + 1, changed_at=at
        )

    def costs_more_than(self, other: Subscription) -> bool:
        """Whether somebody has to pay for this change."""
        return self.price_microusd_per_month > other.price_microusd_per_month
