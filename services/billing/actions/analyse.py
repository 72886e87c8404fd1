"""Work out the figures that the billing team decides by."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.billing.domain.analytics import (
    Active,
    Churn,
    Conversion,
    Days,
    Facet,
    Grain,
    Margin,
    Months,
    Retention,
    Revenue,
    Split,
    TotalUsage,
    margins,
    together,
)
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.values import dataclass

Bound = datetime | None

_USUAL_DAYS = timedelta(days=29)
CONVERTED_WITHIN = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Overview:
    """What the dashboard shows of some months."""

    months: Months
    revenue: Sequence[Revenue]
    active: Sequence[Active]
    monthly_active: Sequence[Active]
    conversion: Sequence[Conversion]
    churn: Sequence[Churn]
    margins: Sequence[Margin]
    retention: Sequence[Retention]
    costs: Sequence[TotalUsage]


@dataclass(frozen=True, slots=True)
class Analyse:
    """Each figure of its own, and all of them at once. Spans that can't be raise BadPeriod.

    `request_cost_microusd`: what one request costs the operator, who pays no vendor for it.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock
    request_cost_microusd: int

    async def revenue(self, begins: Bound, ends: Bound, split: Split) -> Sequence[Revenue]:
        months = self._months(begins, ends)
        async with self.unit_of_work() as work:
            found = await work.analytics.revenue(months)
        return found if split is Split.TIER else together(found)

    async def churn(self, begins: Bound, ends: Bound, split: Split) -> Sequence[Churn]:
        months = self._months(begins, ends)
        async with self.unit_of_work() as work:
            found = await work.analytics.churn(months)
        return found if split is Split.TIER else together(found)

    async def margin(self, begins: Bound, ends: Bound, split: Split) -> Sequence[Margin]:
        months = self._months(begins, ends)
        async with self.unit_of_work() as work:
            found = await self._margins(work, months, await work.analytics.revenue(months))
        return found if split is Split.TIER else together(found)

    async def users(
        self, begins: Bound, ends: Bound, grain: Grain, split: Split
    ) -> Sequence[Active]:
        days = self._days(begins, ends)
        async with self.unit_of_work() as work:
            return await work.analytics.active(
                days, grain, by_tier=split is Split.TIER, by_service=split is Split.SERVICE
            )

    async def conversion(
        self, begins: Bound, ends: Bound, within: timedelta
    ) -> Sequence[Conversion]:
        months = self._months(begins, ends)
        async with self.unit_of_work() as work:
            return await work.analytics.conversion(months, within)

    async def cohorts(self, begins: Bound, ends: Bound) -> Sequence[Retention]:
        months = self._months(begins, ends)
        async with self.unit_of_work() as work:
            return await work.analytics.retention(months)

    async def usage(
        self, begins: Bound, ends: Bound, facets: Sequence[Facet]
    ) -> Sequence[TotalUsage]:
        days = self._days(begins, ends)
        async with self.unit_of_work() as work:
            return await work.analytics.usage(days, facets)

    async def overview(self, begins: Bound, ends: Bound) -> Overview:
        months = self._months(begins, ends)
        days = Days.of(months)
        async with self.unit_of_work() as work:
            known = work.analytics
            revenue = await known.revenue(months)
            return Overview(
                months=months,
                revenue=revenue,
                active=await known.active(days, Grain.DAY, by_tier=False, by_service=False),
                monthly_active=await known.active(
                    days, Grain.MONTH, by_tier=True, by_service=False
                ),
                conversion=await known.conversion(months, CONVERTED_WITHIN),
                churn=await known.churn(months),
                margins=await self._margins(work, months, revenue),
                retention=await known.retention(months),
                costs=await known.usage(days, (Facet.PROVIDER, Facet.MODEL, Facet.OPERATION)),
            )

    async def _margins(
        self, work: UnitOfWork, months: Months, revenue: Sequence[Revenue]
    ) -> Sequence[Margin]:
        usage = await work.analytics.usage_by_tier(months)
        return margins(revenue, usage, per_request=self.request_cost_microusd)

    def _months(self, begins: Bound, ends: Bound) -> Months:
        return Months.within(begins, ends, now=self.clock.now())

    def _days(self, begins: Bound, ends: Bound) -> Days:
        return Days.within(begins, ends, now=self.clock.now(), usual=_USUAL_DAYS)
