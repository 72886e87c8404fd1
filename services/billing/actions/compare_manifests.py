"""Do the hours that producers told of stand in the ledger as they said?"""

from __future__ import annotations

from services.billing.domain.ports import NewUnitOfWork
from shared.values import dataclass

AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class CompareManifests:
    """Compare hours that were told of lately, or did not agree the last time.

    Bounded: the others wait for the next run, those that were looked at longest ago first.
    """

    unit_of_work: NewUnitOfWork

    async def __call__(self) -> int:
        """Answers how many do not agree."""
        async with self.unit_of_work() as work:
            _, differing = await work.manifests.compare(most=AT_ONCE)
        return differing
