"""`/billing/admin/held-usage`: what services outside the suite told that can't be counted."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from services.billing.api.corrections import Reason
from services.billing.api.dependencies import BillingStaff, ServiceActions
from services.billing.domain.outside_usage import HeldEvent
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/billing/admin/held-usage", tags=["billing team"])

# Of the longest source and id there are, three bytes a character.
_LONGEST_CURSOR = 1_300


class HeldEventBody(BaseModel):
    """One event that is held: whose token told it under which `source` and `id`, whose usage it
    would be, and why it is not counted. `event`: as it was told, without its metadata."""

    reporter_id: UUID
    source: str
    id: str
    code: str
    meter: str
    user_id: UUID
    occurred_at: datetime
    held_at: datetime
    event: dict[str, Any]

    @classmethod
    def of(cls, held: HeldEvent) -> HeldEventBody:
        return cls(
            reporter_id=held.reporter,
            source=held.source,
            id=held.external_id,
            code=held.code,
            meter=held.meter,
            user_id=UUID(str(held.body["subject"])),
            occurred_at=held.occurred_at,
            held_at=held.held_at,
            event=dict(held.body),
        )


class HeldRefusalBody(BaseModel):
    """Which event, as it is listed, and why nobody will put it right. Your name is kept with it."""

    model_config = ConfigDict(extra="forbid")

    reporter_id: UUID
    source: Annotated[str, Field(min_length=1, max_length=100)]
    id: Annotated[str, Field(min_length=1, max_length=200)]
    reason: Reason


@router.get("", responses=problems(401, 403, _422="bad_cursor, …"))
async def list_held_usage(
    actions: ServiceActions,
    _staff: BillingStaff,
    cursor: Annotated[
        str | None,
        Query(max_length=_LONGEST_CURSOR, description="The last page's `next_cursor`."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[HeldEventBody]:
    """What is held, by reporter, source and id."""
    found = await actions.list_held_usage(
        after=_position(cursor) if cursor else None,
        most=limit + 1,
    )
    page = Page.of(found, limit, lambda h: cursor_of(h.reporter, h.source, h.external_id))
    return page.as_bodies(HeldEventBody.of)


@router.post(
    "/refuse", status_code=204, responses=problems(401, 403, 422, _404="held_usage_not_found")
)
async def refuse_held_usage(
    refusal: HeldRefusalBody, actions: ServiceActions, staff: BillingStaff
) -> Response:
    """Say that nobody will put it right: it is not counted, and keeps no month open any more.

    It stays in the books. Told again as it was it stays refused, and told well it counts.
    """
    await actions.refuse_held_usage(
        UserId(refusal.reporter_id),
        (refusal.source, refusal.id),
        by=staff.identity.user_id,
        reason=refusal.reason,
    )
    return Response(status_code=204)


def _position(cursor: str) -> tuple[UUID, str, str]:
    reporter, source, external_id = read_cursor(cursor, UUID, _text, _text)
    return reporter, source, external_id


def _text(part: str) -> str:
    """As a part of a cursor. Raises ValueError for what no database takes."""
    if "\x00" in part:
        raise ValueError("no NUL")
    return part
