"""Usage, summed up for its user."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog

from services.billing.actions.link_ledger import LinkLedger
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.usage_report import Dimension, UsageReport
from shared.clock import Clock
from shared.errors import DependencyUnavailable
from shared.ids import UserId
from shared.values import dataclass

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReportUsage:
    """Totals of a period, in whole hours; by default of this month. Raises BadPeriod."""

    unit_of_work: NewUnitOfWork
    link_ledger: LinkLedger
    clock: Clock

    async def __call__(
        self,
        user_id: UserId,
        *,
        begins: datetime | None,
        ends: datetime | None,
        dimensions: Sequence[Dimension],
        sandbox: bool | None,
    ) -> UsageReport:
        period = Period.for_report(begins, ends, now=self.clock.now())
        await self._count()
        async with self.unit_of_work() as work:
            groups = await work.ledger.report(user_id, period, dimensions, sandbox=sandbox)
        return UsageReport.of(period, groups)

    async def _count(self) -> None:
        """Who has just used something sees it, and need not wait for the job that counts it."""
        try:
            await self.link_ledger.a_few()
        except DependencyUnavailable as failure:
            if _is_out_of_reach(failure):
                raise
            _log_uncounted(failure)
        except Exception as error:
            _log_uncounted(error)


def _is_out_of_reach(failure: DependencyUnavailable) -> bool:
    """Then to ask it once more takes as long again. What the database refuses to do (it may only be
    read, its disk is full, somebody holds the same hours) it refuses by itself."""
    return not failure.did_nothing or isinstance(failure.__cause__, OSError)


def _log_uncounted(error: Exception) -> None:
    # A line for each who asks: the job that links fails over it as well, and says where.
    log.warning("usage_not_counted", reason=type(error.__cause__ or error).__name__)
