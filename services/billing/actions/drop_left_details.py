"""Billing details that were kept for a last invoice."""

from __future__ import annotations

from datetime import timedelta

from services.billing.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.values import dataclass

# A month, the time to close it, and some patience: what no invoice came for until then is no reason
# to keep anybody's name.
_LONGEST = timedelta(days=100)


@dataclass(frozen=True, slots=True)
class DropLeftDetails:
    """Drop those of users and organisations that are gone, once their last invoice is made."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> int:
        """Answers how many."""
        async with self.unit_of_work() as work:
            return await work.details.drop_left(before=self.clock.now() - _LONGEST)
