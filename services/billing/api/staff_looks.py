"""`/billing/looks`: who of the billing team looked at whose data; and the note of each look."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from services.billing.actions import Actions
from services.billing.api.dependencies import BillingStaff, Cursor, ServiceActions
from services.billing.api.subscription import holder_of
from services.billing.domain.staff_look import StaffLook, StaffLookId
from shared.http.caller import Caller, SignedIn
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems
from shared.ids import UserId
from shared.values import dataclass

router = APIRouter(prefix="/billing", tags=["invoices"])
team_router = APIRouter(prefix="/billing/admin", tags=["billing team"])

_Limit = Annotated[int, Query(ge=1, le=200)]
_Reason = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=300,
        description="Why you look. It stays in the trail for good, and whom it is about reads it: "
        "name nobody in it.",
    ),
]


@dataclass(frozen=True, slots=True)
class Looking:
    """A member of the billing team, by whom a call about one holder is noted."""

    actions: Actions
    caller: Caller
    call: str
    reason: str | None

    async def at(self, holder: UUID) -> None:
        """To be called before the answer is sent."""
        await self.actions.note_staff_look(
            UserId(holder), by=self.caller.identity.user_id, call=self.call, reason=self.reason
        )


async def _looking(
    request: Request, actions: ServiceActions, staff: BillingStaff, reason: _Reason = None
) -> Looking:
    return Looking(actions, staff, f"{request.method} {request.scope['route'].path}", reason)


StaffLooking = Annotated[Looking, Depends(_looking)]
"""On routes that show the billing team the data of one user or organisation."""


class LookBody(BaseModel):
    """When the billing team looked at your data, by which call, and why if they said so."""

    id: UUID
    at: datetime
    call: str
    reason: str | None

    @classmethod
    def of(cls, look: StaffLook) -> LookBody:
        return cls(id=look.id, at=look.at, call=look.call, reason=look.reason)


class StaffLookBody(LookBody):
    """The same, with who looked at whom."""

    by: UUID
    holder_id: UUID

    @classmethod
    def of(cls, look: StaffLook) -> StaffLookBody:
        about = LookBody.of(look).model_dump()
        return cls(**about, by=look.by, holder_id=look.holder)


@router.get(
    "/looks",
    responses=problems(
        401,
        _403="organisation_billing_required",
        _404="subscription_not_found",
        _422="bad_cursor, …",
        _503="dependency_unavailable",
    ),
)
async def list_looks(
    actions: ServiceActions,
    caller: SignedIn,
    organisation_id: Annotated[UUID | None, Query(description="Yours, to see its own.")] = None,
    cursor: Cursor = None,
    limit: _Limit = 50,
) -> Page[LookBody]:
    """When the billing team looked at what you or your organisation pay, the newest first."""
    found = await actions.list_staff_looks(
        holder_of(caller, organisation_id),
        by=caller.identity.user_id,
        before=_position(cursor),
        most=limit + 1,
    )
    return Page.of(found, limit, lambda look: cursor_of(look.id)).as_bodies(LookBody.of)


@team_router.get("/looks", responses=problems(401, 403, _422="bad_cursor, …"))
async def list_all_looks(
    actions: ServiceActions,
    _staff: BillingStaff,
    holder: Annotated[UUID | None, Query(description="At a user, or an organisation.")] = None,
    looked_by: Annotated[UUID | None, Query(description="One of the team.")] = None,
    cursor: Cursor = None,
    limit: _Limit = 50,
) -> Page[StaffLookBody]:
    """Who looked at whose data by one of the billing team's calls, the newest first."""
    found = await actions.list_staff_looks.all(
        holder=UserId(holder) if holder else None,
        by=UserId(looked_by) if looked_by else None,
        before=_position(cursor),
        most=limit + 1,
    )
    return Page.of(found, limit, lambda look: cursor_of(look.id)).as_bodies(StaffLookBody.of)


def _position(cursor: str | None) -> StaffLookId | None:
    return StaffLookId(read_cursor(cursor, UUID)[0]) if cursor else None
