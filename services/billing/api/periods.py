"""`/billing/admin/periods`: months that are closed for good."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from services.billing.api.dependencies import BillingStaff, ServiceActions
from services.billing.domain.closing import ClosedPeriod, Finding, LateUsage, Month
from shared.http.dollars import DollarsBeside
from shared.http.pages import Page
from shared.http.problems import problems

router = APIRouter(prefix="/billing/admin/periods", tags=["billing team"])

MonthName = Annotated[str, Path(max_length=7, description="`2026-11`", examples=["2026-11"])]


class Waiver(BaseModel):
    """Why the month is closed although something is missing. Your name is kept with it."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=10, max_length=1000)


class Closing(BaseModel):
    """How to close a month: as it is, or waiving what is not right."""

    model_config = ConfigDict(extra="forbid")

    waive: Waiver | None = None


class FindingBody(BaseModel):
    """What was not right when the month was closed."""

    code: str
    subject: str
    count: int

    @classmethod
    def of(cls, finding: Finding) -> FindingBody:
        return cls(code=finding.code, subject=finding.subject, count=finding.count)


class PeriodBody(DollarsBeside):
    """A closed month. `digest` is SHA-256 over month and totals, as sorted JSON without spaces, and
    was kept with them; `sound` is false when they do not fit it any more: one of them was changed.
    """

    month: str
    closed_at: datetime
    closed_by: UUID
    waived: list[FindingBody]
    reason: str | None
    events: int
    ids: str
    corrections: int
    corrected_cost_microusd: int
    digest: str
    sound: bool

    @classmethod
    def of(cls, period: ClosedPeriod) -> PeriodBody:
        return cls(**_facts_of(period))


class FullPeriodBody(PeriodBody):
    """With its totals, and what came after it was closed: that waits for an adjustment line."""

    totals: list[dict[str, Any]]
    late_events: int
    late_cost_microusd: int
    late_event_ids: list[UUID]  # the first hundred
    late_corrections: int
    late_corrected_cost_microusd: int

    @classmethod
    def with_late(cls, period: ClosedPeriod, late: LateUsage) -> FullPeriodBody:
        return cls(
            **_facts_of(period),
            totals=[dict(group) for group in period.totals.groups],
            late_events=late.events,
            late_cost_microusd=late.known_cost,
            late_event_ids=list(late.event_ids),
            late_corrections=late.corrections,
            late_corrected_cost_microusd=late.corrected_cost,
        )


def _facts_of(period: ClosedPeriod) -> dict[str, Any]:
    return {
        "month": period.month.name,
        "closed_at": period.closed_at,
        "closed_by": period.closed_by,
        "waived": [FindingBody.of(finding) for finding in period.waived],
        "reason": period.reason,
        "events": period.totals.events,
        "ids": period.totals.ids,
        "corrections": period.totals.corrections,
        "corrected_cost_microusd": period.totals.corrected_cost,
        "digest": period.kept_digest or period.digest,
        "sound": period.is_as_kept,
    }


@router.post(
    "/{month}/close",
    status_code=201,
    responses=problems(
        401, 403, _409="period_not_over, period_closed, period_not_complete", _422="bad_month, …"
    ),
)
async def close_period(
    month: MonthName,
    actions: ServiceActions,
    staff: BillingStaff,
    closing: Closing | None = None,
) -> PeriodBody:
    """Close a month for good. Without `waive` only when all of it is there, compared and priced."""
    waive = closing.waive if closing else None
    period = await actions.close_period(
        Month.named(month),
        by=staff.identity.user_id,
        reason=waive.reason if waive else None,
    )
    return PeriodBody.of(period)


@router.get("", responses=problems(401, 403))
async def list_periods(actions: ServiceActions, _staff: BillingStaff) -> Page[PeriodBody]:
    """The closed months, the newest first."""
    return Page(data=[PeriodBody.of(period) for period in await actions.list_periods()])


@router.get("/{month}", responses=problems(401, 403, _404="period_not_found", _422="bad_month"))
async def show_period(
    month: MonthName, actions: ServiceActions, _staff: BillingStaff
) -> FullPeriodBody:
    """A closed month: its frozen totals, and what came late."""
    return FullPeriodBody.with_late(*await actions.show_period(Month.named(month)))
