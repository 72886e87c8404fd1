"""Room in the ledger for the time to come."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.billing.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.values import dataclass

MONTHS_AHEAD = 3
DAYS_AHEAD = 14


@dataclass(frozen=True, slots=True)
class PrepareLedger:
    """Make the partitions ahead of time; what finds none is still kept, in the stray rows."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    in_days: bool = False
    """A partition for each day, as what is to be archived needs it; otherwise for each month, since
    every partition has its price where all of them are searched."""

    async def __call__(self) -> int:
        """Answers how many rows are astray: more than none is worth a look."""
        if self.in_days:
            async with self.unit_of_work() as work:
                await work.upkeep.prepare_days(self.clock.now(), ahead=DAYS_AHEAD)
                return await work.upkeep.stray_rows()
        month = _first_of_month(self.clock.now())
        months = [month]
        for _ in range(MONTHS_AHEAD):
            months.append(_first_of_month(months[-1] + timedelta(days=32)))
        async with self.unit_of_work() as work:
            await work.upkeep.prepare_months(months)
            return await work.upkeep.stray_rows()


def _first_of_month(moment: datetime) -> datetime:
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
