"""`/billing/admin/aged-usage`: what came long after it was used waits for two people."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from services.billing.api.corrections import Reason
from services.billing.api.dependencies import BillingStaff, ServiceActions
from services.billing.domain.aged_usage import AgedGroup, AgedUsage
from services.billing.domain.closing import Month
from shared.http.dollars import DollarsBeside
from shared.http.pages import Page
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/billing/admin/aged-usage", tags=["billing team"])


class AgedUsageBody(DollarsBeside):
    """One user's usage of a month that one producer told late, and of which nothing is on an
    invoice. `cost_microusd` is of what has a price; `ids` stands for exactly these events."""

    user_id: UUID
    month: str
    producer: str
    ids: str
    events: int
    unpriced: int
    cost_microusd: int
    used_from: datetime
    used_until: datetime
    received_from: datetime
    received_until: datetime
    approved_by: UUID | None
    approved_at: datetime | None
    approval_reason: str | None

    @classmethod
    def of(cls, usage: AgedUsage) -> AgedUsageBody:
        group = usage.group
        return cls(
            user_id=group.user_id,
            month=group.month.name,
            producer=group.producer,
            ids=group.ids,
            events=usage.events,
            unpriced=usage.unpriced,
            cost_microusd=usage.cost_microusd,
            used_from=usage.used_from,
            used_until=usage.used_until,
            received_from=usage.received_from,
            received_until=usage.received_until,
            approved_by=usage.approved_by,
            approved_at=usage.approved_at,
            approval_reason=usage.approval_reason,
        )


class DecisionBody(BaseModel):
    """Of which usage, as it was listed, and why. Your name is kept with it."""

    model_config = ConfigDict(extra="forbid")

    user_id: UUID
    month: Annotated[str, Field(max_length=7, examples=["2026-01"])]
    producer: Annotated[str, Field(min_length=1, max_length=200)]
    ids: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    reason: Reason

    def group(self) -> AgedGroup:
        return AgedGroup(UserId(self.user_id), Month.named(self.month), self.producer, self.ids)


class ApprovedBody(BaseModel):
    """Whether it is billed now, with the next month's invoices, or waits for a second person."""

    released: bool


class RefusedBody(BaseModel):
    """How many events are voided; `left` of a large group for another call, after another look."""

    voided: int
    left: int


@router.get("", responses=problems(401, 403))
async def list_aged_usage(actions: ServiceActions, _staff: BillingStaff) -> Page[AgedUsageBody]:
    """What waits, the oldest months first; 500 groups at most."""
    return Page(data=[AgedUsageBody.of(usage) for usage in await actions.list_aged_usage()])


@router.post(
    "/approve",
    responses=problems(
        401, 403, _409="aged_usage_changed, second_person_needed", _422="bad_month, …"
    ),
)
async def approve_aged_usage(
    decision: DecisionBody, actions: ServiceActions, staff: BillingStaff
) -> ApprovedBody:
    """Say that it is to be billed. It is once a second person of the team has said so, too."""
    released = await actions.approve_aged_usage(
        decision.group(), by=staff.identity.user_id, reason=decision.reason
    )
    return ApprovedBody(released=released)


@router.post(
    "/refuse", responses=problems(401, 403, _409="aged_usage_changed", _422="bad_month, …")
)
async def refuse_aged_usage(
    decision: DecisionBody, actions: ServiceActions, staff: BillingStaff
) -> RefusedBody:
    """Void it, by a correction of each event: nobody is billed for it."""
    voided, left = await actions.refuse_aged_usage(
        decision.group(), by=staff.identity.user_id, reason=decision.reason
    )
    return RefusedBody(voided=voided, left=left)
