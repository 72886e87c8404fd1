"""Close a month for good."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.domain.closing import (
    SETTLING_TIME,
    ClosedPeriod,
    Finding,
    LateUsage,
    Month,
    incomplete_streams,
    silent_streams,
)
from services.billing.domain.errors import (
    PeriodClosed,
    PeriodNotComplete,
    PeriodNotFound,
    PeriodNotOver,
)
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass

MOST_LATE_SHOWN = 100
_MOST_PERIODS = 120


@dataclass(frozen=True, slots=True)
class ClosePeriod:
    """Freeze a month's totals, when everything of it is there and priced.

    Whoever gives a reason waives what is not: their name, the reason and the findings are kept.
    Later usage of the month still enters the ledger, and is listed as late.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, month: Month, *, by: UserId, reason: str | None) -> ClosedPeriod:
        """Raises PeriodNotOver, PeriodClosed or PeriodNotComplete."""
        if not month.can_be_closed_at(self.clock.now()):
            raise PeriodNotOver(month.name, month.period.ends + SETTLING_TIME)
        async with self.unit_of_work() as work:
            if await work.periods.get(month) is not None:
                raise PeriodClosed(month.name)
            closed_at = await work.periods.halt()
            findings = await findings_of(work, month)
            if findings and reason is None:
                raise PeriodNotComplete(month.name, [found.to_facts() for found in findings])
            period = ClosedPeriod(
                month=month,
                closed_at=closed_at,
                closed_by=by,
                totals=await work.periods.totals(month),
                waived=tuple(findings),
                reason=reason,
            )
            if not await work.periods.add(period):
                raise PeriodClosed(month.name)
        return period


async def findings_of(work: UnitOfWork, month: Month) -> list[Finding]:
    """Everything that speaks against closing."""
    progress = await work.completeness.progress()
    given_up = await work.periods.given_up()
    findings = [*incomplete_streams(progress), *silent_streams(progress, month, given_up)]
    unfinished = await work.manifests.unfinished(month.period)
    findings += [Finding("last_hour_not_told", stream, 1) for stream in unfinished]
    for producer, is_missing, hours in await work.manifests.hours_off(month.period):
        code = "manifest_missing" if is_missing else "manifest_mismatched"
        findings.append(Finding(code, producer, hours))
    findings += await work.periods.unpriced(month)
    findings += await work.periods.to_rerate(month)
    held = await work.outside.held_between(month.period.begins, month.period.ends)
    dead = await work.upkeep.dead_events()
    unlinked = (await work.chain.lag()).waiting
    waiting = {"held_usage": held, "dead_events": dead, "unlinked": unlinked}
    findings += [Finding(code, "", count) for code, count in waiting.items() if count]
    return findings


@dataclass(frozen=True, slots=True)
class ShowPeriod:
    """A closed month, and what came of it since. Raises PeriodNotFound."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, month: Month) -> tuple[ClosedPeriod, LateUsage]:
        async with self.unit_of_work() as work:
            period = await work.periods.get(month)
            if period is None:
                raise PeriodNotFound(month.name)
            return period, await work.periods.late(period, most=MOST_LATE_SHOWN)


@dataclass(frozen=True, slots=True)
class ListPeriods:
    """The closed months, the newest first."""

    unit_of_work: NewUnitOfWork

    async def __call__(self) -> Sequence[ClosedPeriod]:
        async with self.unit_of_work() as work:
            return await work.periods.newest(most=_MOST_PERIODS)
