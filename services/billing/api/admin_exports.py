"""`/billing/admin/exports`: everybody's usage as files."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from services.billing.api.dependencies import BillingStaff, Cursor, ServiceActions, read_moment
from services.billing.api.export import CSV, NDJSON, PARQUET, export
from services.billing.domain.period import Period
from services.billing.domain.usage_export import ExportId, UsageExport
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems

router = APIRouter(prefix="/billing/admin/exports", tags=["billing team"])

_PAGE = 50
Moment = Annotated[str, Field(max_length=40)]


class WantedExport(BaseModel):
    """A period, by when it was used, and a format."""

    model_config = ConfigDict(extra="forbid")

    begins: Moment = Field(alias="from", description="RFC 3339, or a date: from its first moment.")
    ends: Moment = Field(
        alias="to", description="RFC 3339 (not included), or a date: that day included."
    )
    format: Literal["csv", "ndjson", "parquet"] = "csv"


class ExportBody(BaseModel):
    """A file that somebody asked for. It holds what had come by `asked_at`."""

    id: UUID
    begins: datetime = Field(serialization_alias="from")
    ends: datetime = Field(serialization_alias="to")
    format: Literal["csv", "ndjson", "parquet"]
    asked_by: UUID
    asked_at: datetime
    url: str = Field(description="The file, at the gateway.")

    @classmethod
    def of(cls, asked: UsageExport) -> ExportBody:
        return cls(
            id=asked.id,
            begins=asked.period.begins,
            ends=asked.period.ends,
            format=asked.format,
            asked_by=asked.asked_by,
            asked_at=asked.asked_at,
            url=f"/billing/admin/exports/{asked.id}/file",
        )


@router.post("", status_code=201, responses=problems(401, 403, 422))
async def ask_for_export(
    wanted: WantedExport, actions: ServiceActions, staff: BillingStaff
) -> ExportBody:
    """Ask for a file of all usage of a period with its corrections, what is archived included.
    Who asked is kept; fetch it at its `url`."""
    period = Period(read_moment(wanted.begins), read_moment(wanted.ends, end_of_day=True))
    asked = await actions.ask_for_export(period, wanted.format, by=staff.identity.user_id)
    return ExportBody.of(asked)


@router.get("", responses=problems(401, 403, 422))
async def list_exports(
    actions: ServiceActions,
    _staff: BillingStaff,
    limit: Annotated[int, Query(ge=1, le=200)] = _PAGE,
    cursor: Cursor = None,
) -> Page[ExportBody]:
    """Which files were asked for, the newest first."""
    before = ExportId(read_cursor(cursor, UUID)[0]) if cursor else None
    found = await actions.list_exports(before=before, most=limit + 1)
    return Page.of(found, limit, lambda one: cursor_of(one.id)).as_bodies(ExportBody.of)


@router.get("/{export_id}", responses=problems(401, 403, 404, 422))
async def show_export(export_id: UUID, actions: ServiceActions, _staff: BillingStaff) -> ExportBody:
    """What one of them holds, and who asked for it."""
    return ExportBody.of(await actions.show_export(ExportId(export_id)))


@router.get(
    "/{export_id}/file",
    response_class=Response,
    responses=problems(401, 403, 404, 409, 422)
    | {200: {"content": {CSV: {}, NDJSON: {}, PARQUET: {}}}},
)
async def fetch_export(export_id: UUID, actions: ServiceActions, _staff: BillingStaff) -> Response:
    """The file. It is made while you read it; one that breaks off is fetched again."""
    asked = await actions.show_export(ExportId(export_id))
    return await export(actions.fetch_export(asked), asked.format)
