"""Find out whether closed months still say what they were closed over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.billing.domain.closing import ClosedPeriod, Month
from services.billing.domain.ports import NewUnitOfWork
from shared.values import dataclass

_MOST_PERIODS = 1_200
# A call is used some time after its id was made, by which it lies in a partition.
_NEAR = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class PeriodVerdict:
    """A closed month, and what is wrong with it, as a sentence."""

    period: ClosedPeriod
    broken: str | None


@dataclass(frozen=True, slots=True)
class VerifyPeriods:
    """Compare the totals of closed months with the digest that was kept with them, and with the
    ledger itself, as far as it does not lie in files."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, month: Month | None = None) -> list[PeriodVerdict]:
        """All months, or one. Counting reads a whole month of the ledger."""
        return [
            PeriodVerdict(period, await self._problem(period))
            for period in await self._periods()
            if month in (None, period.month)
        ]

    async def changed(self) -> list[ClosedPeriod]:
        """The months whose totals are not those that were kept; the ledger is not counted."""
        return [period for period in await self._periods() if not period.is_as_kept]

    async def _periods(self) -> Sequence[ClosedPeriod]:
        async with self.unit_of_work() as work:
            return await work.periods.newest(most=_MOST_PERIODS)

    async def _problem(self, period: ClosedPeriod) -> str | None:
        if not period.is_as_kept:
            return "Its totals do not fit the digest that was kept with them: one was changed."
        totals = period.totals
        async with self.unit_of_work() as work:
            events, ids = await work.periods.entries_at_closing(period)
            if (events, ids) == (totals.events, totals.ids):
                return None
            # Looked for afterwards: a partition may have gone to a file meanwhile.
            since = period.month.period.begins - _NEAR
            archives = await work.archive.all()
            if any(one.state == "dropped" and one.partition.ends_at > since for one in archives):
                return None
        return (
            f"It was closed over {totals.events} entries ({totals.ids}); "
            f"of those received until then the ledger has {events} ({ids})."
        )
