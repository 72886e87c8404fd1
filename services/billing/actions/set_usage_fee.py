"""What is charged for usage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.billing.domain.effect import effective_since
from services.billing.domain.errors import UsageFeeExists
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.usage_fee import UsageFee
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class SetUsageFee:
    """Another fee of a tier from a moment on, never from an earlier one than now."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self, tier_name: str, basis_points: int, *, effective_from: datetime | None, by: UserId
    ) -> UsageFee:
        """Raises UnknownTier, UsageFeeNotForSeats, EffectiveFromPast or UsageFeeExists."""
        now = self.clock.now()
        since = effective_since(effective_from, now)
        fee = UsageFee.set(tier_name, basis_points, effective_from=since, by=by, at=now)
        async with self.unit_of_work() as work:
            if not await work.usage_fees.add(fee):
                raise UsageFeeExists(tier_name, fee.effective_from)
        return fee


@dataclass(frozen=True, slots=True)
class ListUsageFees:
    """All fees there are, by tier and time."""

    unit_of_work: NewUnitOfWork

    async def __call__(self) -> Sequence[UsageFee]:
        async with self.unit_of_work() as work:
            return await work.usage_fees.all()
