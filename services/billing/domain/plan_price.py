"""What a tier's seat costs a month, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Self

from services.billing.domain.errors import DefaultPlanIsFree, UnknownTier
from shared.ids import UserId
from shared.tiers import DEFAULT_TIER, TIERS
from shared.values import dataclass

MOST_MICROUSD_PER_SEAT = 10**10


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """The price of one seat for one month, and which price that is."""

    microusd: int
    version: str


@dataclass(frozen=True, slots=True)
class PlanPrice:
    """The operator's own price of a tier from a moment on, until a later one takes its place."""

    tier_name: str
    effective_from: datetime
    microusd_per_seat_month: int
    set_by: UserId
    set_at: datetime

    @classmethod
    def set(
        cls, tier_name: str, microusd: int, *, effective_from: datetime, by: UserId, at: datetime
    ) -> Self:
        """A new price. Raises UnknownTier or DefaultPlanIsFree."""
        if tier_name not in TIERS:
            raise UnknownTier(TIERS)
        if tier_name == DEFAULT_TIER.name and microusd:
            raise DefaultPlanIsFree(tier_name)
        return cls(tier_name, effective_from, microusd, by, at)

    @property
    def unit(self) -> UnitPrice:
        version = f"plan/{self.tier_name}/{self.effective_from.isoformat()}"
        return UnitPrice(self.microusd_per_seat_month, version)


@dataclass(frozen=True, slots=True)
class PlanPrices:
    """All prices of all tiers: those of the tier table, and the operator's own over them."""

    own: Sequence[PlanPrice] = ()

    @classmethod
    def of(cls, own: Iterable[PlanPrice]) -> Self:
        return cls(sorted(own, key=lambda price: price.effective_from, reverse=True))

    def at(self, tier_name: str, moment: datetime) -> UnitPrice:
        """The price of a seat for who buys, or begins a new period, at that moment."""
        for price in self.own:
            if price.tier_name == tier_name and price.effective_from <= moment:
                return price.unit
        listed = TIERS[tier_name].price_microusd_per_seat_month
        return UnitPrice(listed, f"tiers/{listed}")
