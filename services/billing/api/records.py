"""`/billing/usage/records`: the ledger, entry by entry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel

from services.billing.api.corrections import DeltasBody, deltas_body
from services.billing.api.dependencies import OWN_ONLY, AskedPeriod, Cursor, ServiceActions
from services.billing.api.export import CSV, NDJSON, PARQUET, export, wanted_format
from services.billing.api.invoice_body import InvoicedAsBody
from services.billing.api.record_body import RecordBody
from services.billing.domain.correction import Corrected, Correction
from services.billing.domain.invoice_ports import InvoicedAs
from services.billing.domain.ledger import Entry
from services.billing.domain.period import Period
from services.billing.domain.ports import Position
from shared.http.caller import SignedIn
from shared.http.pages import Page, cursor_of, moment_in_cursor, read_cursor
from shared.http.problems import problems
from shared.ids import EventId

router = APIRouter(prefix="/billing/usage/records", tags=["usage"], dependencies=[OWN_ONLY])

_PAGE = 50


class StepBody(BaseModel):
    """One step in the life of an event."""

    step: str
    at: datetime
    price_version: str | None = None
    reason: str | None = None
    deltas: DeltasBody | None = None


class RecordLifeBody(RecordBody):
    """One paid call with all that happened to it here, in order."""

    producer: str
    life: list[StepBody]
    invoiced_as: list[InvoicedAsBody]

    @classmethod
    def telling(cls, corrected: Corrected, invoiced: Sequence[InvoicedAs]) -> RecordLifeBody:
        entry = corrected.entry
        record = RecordBody.of(entry).model_dump()
        life = [*_life(entry), *map(_correction, corrected.corrections)]
        return cls(
            **record,
            producer=entry.producer,
            life=life,
            invoiced_as=[InvoicedAsBody.of(found) for found in invoiced],
        )


class RecordsBody(Page[RecordBody]):
    """A page of entries. `archived_requests` of the hours that you asked about lie in the
    operator's archive and are on no page; the sums in `/billing/usage` have them."""

    archived_requests: int


@router.get(
    "",
    response_model=RecordsBody,
    responses=problems(401, 422) | {200: {"content": {CSV: {}, NDJSON: {}, PARQUET: {}}}},
)
async def list_records(
    actions: ServiceActions,
    caller: SignedIn,
    asked: AskedPeriod,
    limit: Annotated[
        int | None, Query(ge=1, le=200, description="At most; a file has all without it.")
    ] = None,
    cursor: Cursor = None,
    accept: Annotated[str | None, Header(max_length=1_000)] = None,
) -> RecordsBody | Response:
    """Your ledger entries, the newest first: a page as JSON, or all of them with what was
    corrected later as a CSV, NDJSON or Parquet file, by `Accept`."""
    period = Period.between(asked.begins, asked.ends)
    after = _position(cursor) if cursor else None
    user_id = caller.identity.user_id
    format_ = wanted_format(accept)
    if format_ is not None:
        pieces = actions.export_own_usage(user_id, format_, period=period, after=after, most=limit)
        return await export(pieces, format_)
    size = limit or _PAGE
    entries = await actions.list_usage(user_id, period=period, after=after, most=size + 1)
    page = Page.of(entries, size, lambda entry: cursor_of(entry.occurred_at, entry.event_id))
    return RecordsBody(
        data=[RecordBody.of(entry) for entry in page.data],
        next_cursor=page.next_cursor,
        archived_requests=await actions.list_usage.archived(user_id, period),
    )


@router.get("/{event_id}", response_model=RecordLifeBody, responses=problems(401, 404, 422))
async def explain_record(
    event_id: UUID, actions: ServiceActions, caller: SignedIn
) -> RecordLifeBody:
    """The life of one event: when it happened, came here, was rated and by which price, and what
    was corrected later, and on which line of which invoice it stands."""
    corrected = await actions.explain_usage.with_corrections(
        EventId(event_id), by=caller.identity.user_id
    )
    return RecordLifeBody.telling(corrected, await actions.explain_usage.invoiced_as(corrected))


def _life(entry: Entry) -> list[StepBody]:
    steps = [StepBody(step="occurred", at=entry.occurred_at)]
    if entry.received_at is not None:
        steps.append(StepBody(step="received", at=entry.received_at))
    if entry.rating is not None and entry.rated_at is not None:
        steps.append(
            StepBody(step="rated", at=entry.rated_at, price_version=entry.rating.price_version)
        )
    return steps


def _correction(correction: Correction) -> StepBody:
    return StepBody(
        step=correction.kind,
        at=correction.made_at,
        reason=correction.reason,
        deltas=deltas_body(correction.deltas),
    )


def _position(cursor: str) -> Position:
    moment, event_id = read_cursor(cursor, moment_in_cursor, UUID)
    return moment, EventId(event_id)
