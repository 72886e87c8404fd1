"""What the operator charges for usage, beside what the vendor takes for it."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from services.billing.domain.errors import UnknownTier, UsageFeeNotForSeats
from shared.ids import UserId
from shared.tiers import TIERS
from shared.values import dataclass

MOST_BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class UsageFee:
    """Basis points of the vendor's cost for a tier's usage from a moment on, until a later one
    takes its place. Without any, usage is included."""

    tier_name: str
    effective_from: datetime
    basis_points: int
    set_by: UserId
    set_at: datetime

    @classmethod
    def set(
        cls,
        tier_name: str,
        basis_points: int,
        *,
        effective_from: datetime,
        by: UserId,
        at: datetime,
    ) -> Self:
        """A new fee. Raises UnknownTier or UsageFeeNotForSeats."""
        tier = TIERS.get(tier_name)
        if tier is None:
            raise UnknownTier(TIERS)
        if tier.many_seats and basis_points:
            raise UsageFeeNotForSeats(tier_name)
        return cls(tier_name, effective_from, basis_points, by, at)
