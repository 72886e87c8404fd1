"""Usage, summed up for its user."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.usage_report import Dimension, UsageReport
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ReportUsage:
    """Totals of a period, in whole hours; by default of this month. Raises BadPeriod."""

    unit_of_work: NewUnitOfWork
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
        async with self.unit_of_work() as work:
            groups = await work.ledger.report(user_id, period, dimensions, sandbox=sandbox)
        return UsageReport.of(period, groups)
