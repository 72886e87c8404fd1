"""Is the ledger complete?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.billing.domain.completeness import Gap, Progress
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import Model


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What the billing team looks at before it trusts a number."""

    progress: Sequence[Progress]
    gaps: Sequence[Gap]
    unpriced: Sequence[tuple[Model, int]]
    stray_rows: int
    dead_events: int


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Compare what producers sent with what was recorded, and count what waits for somebody."""

    unit_of_work: NewUnitOfWork

    async def __call__(self) -> Reconciliation:
        async with self.unit_of_work() as work:
            return Reconciliation(
                progress=await work.completeness.progress(),
                gaps=await work.completeness.known_gaps(),
                unpriced=await work.unpriced.models(),
                stray_rows=await work.upkeep.stray_rows(),
                dead_events=await work.upkeep.dead_events(),
            )
