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
from shared.errors import Unavailable
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
        except Unavailable:
            raise
        except Exception:
            # The job fails over it as well, which is told; the sums are told as they are.
            log.exception("usage_not_counted")
