"""What tiers cost."""

from __future__ import annotations

from datetime import datetime

from services.billing.domain.effect import effective_since
from services.billing.domain.errors import PlanPriceExists
from services.billing.domain.plan_price import PlanPrice, PlanPrices
from services.billing.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class SetPlanPrice:
    """Another price of a tier from a moment on, never from an earlier one than now.

    Who has a period goes on at the price that it began with.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self, tier_name: str, microusd: int, *, effective_from: datetime | None, by: UserId
    ) -> PlanPrice:
        """Raises UnknownTier, DefaultPlanIsFree, EffectiveFromPast or PlanPriceExists."""
        now = self.clock.now()
        since = effective_since(effective_from, now)
        price = PlanPrice.set(tier_name, microusd, effective_from=since, by=by, at=now)
        async with self.unit_of_work() as work:
            if not await work.plan_prices.add(price):
                raise PlanPriceExists(tier_name, price.effective_from)
        return price


@dataclass(frozen=True, slots=True)
class ShowPlanPrices:
    """All prices there are, for a list of the plans."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> tuple[PlanPrices, datetime]:
        """The prices, and the moment to read them at."""
        async with self.unit_of_work() as work:
            return await work.plan_prices.all(), self.clock.now()
