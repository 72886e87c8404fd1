"""`/billing/invoices` and `/billing/credit-notes`: what somebody owes, and what was taken back."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from services.billing.api.dependencies import Cursor, ServiceActions
from services.billing.api.invoice_body import (
    DOCUMENTS,
    Accept,
    AskedFormat,
    CoveredBody,
    CreditNoteBody,
    InvoiceBody,
    InvoiceHeadBody,
    printed,
    wanted_format,
)
from services.billing.api.subscription import holder_of
from services.billing.domain.closing import Month
from services.billing.domain.errors import BadMonth
from services.billing.domain.invoice import CreditNoteId, InvoiceId, LineId
from services.billing.domain.invoice_ports import InvoiceHead
from shared.http.caller import SignedIn
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems

router = APIRouter(prefix="/billing", tags=["invoices"])

Limit = Annotated[int, Query(ge=1, le=200)]
ForOrganisation = Annotated[UUID | None, Query(description="Yours, to see its own.")]
_LISTED = problems(
    401,
    422,
    _403="organisation_billing_required",
    _404="subscription_not_found",
    _503="dependency_unavailable",
)


def position_of(head: InvoiceHead) -> str:
    """The cursor behind an invoice."""
    return cursor_of(head.month.name, head.id)


def read_position(cursor: str | None) -> tuple[Month, InvoiceId] | None:
    """Raises BadCursor."""
    if cursor is None:
        return None
    month, invoice_id = read_cursor(cursor, _month, UUID)
    return month, InvoiceId(invoice_id)


def _month(text: str) -> Month:
    try:
        return Month.named(text)
    except BadMonth as error:
        raise ValueError("a cursor's month is one") from error


@router.get("/invoices", responses=_LISTED)
async def list_invoices(
    actions: ServiceActions,
    caller: SignedIn,
    organisation_id: ForOrganisation = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[InvoiceHeadBody]:
    """Your invoices or your organisation's, the newest month first."""
    found = await actions.list_invoices(
        holder_of(caller, organisation_id),
        by=caller.identity.user_id,
        after=read_position(cursor),
        most=limit + 1,
    )
    return Page.of(found, limit, position_of).as_bodies(InvoiceHeadBody.of_head)


@router.get(
    "/invoices/{invoice_id}",
    response_model=InvoiceBody,
    responses=problems(401, 422, _404="invoice_not_found", _503="dependency_unavailable")
    | DOCUMENTS,
)
async def show_invoice(
    invoice_id: UUID,
    actions: ServiceActions,
    caller: SignedIn,
    format_: AskedFormat = None,
    accept: Accept = None,
) -> InvoiceBody | Response:
    """An invoice as JSON, as a page or as a PDF, by `format` or `Accept`."""
    invoice, standing = await actions.show_invoice(
        InvoiceId(invoice_id), by=caller.identity.user_id
    )
    wanted = wanted_format(format_, accept)
    if wanted != "json":
        return await printed(actions.print_invoice, invoice, wanted)
    return InvoiceBody.of(invoice, standing)


@router.get(
    "/invoices/{invoice_id}/lines/{line_id}/records",
    responses=problems(
        401, 422, _404="invoice_not_found, invoice_line_not_found", _503="dependency_unavailable"
    ),
)
async def list_line_records(
    invoice_id: UUID,
    line_id: UUID,
    actions: ServiceActions,
    caller: SignedIn,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[CoveredBody]:
    """Everything that a line stands for, by id: entries of the ledger, charges, corrections."""
    found = await actions.show_invoice.records(
        InvoiceId(invoice_id),
        LineId(line_id),
        by=caller.identity.user_id,
        after=read_cursor(cursor, UUID)[0] if cursor else None,
        most=limit + 1,
    )
    page = Page.of(found, limit, lambda record: cursor_of(record.source_id))
    return page.as_bodies(CoveredBody.of)


@router.get("/credit-notes", responses=_LISTED)
async def list_credit_notes(
    actions: ServiceActions,
    caller: SignedIn,
    organisation_id: ForOrganisation = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[CreditNoteBody]:
    """What was taken back of your invoices or your organisation's, the newest first."""
    found = await actions.show_credit_notes.of(
        holder_of(caller, organisation_id),
        by=caller.identity.user_id,
        after=CreditNoteId(read_cursor(cursor, UUID)[0]) if cursor else None,
        most=limit + 1,
    )
    return Page.of(found, limit, lambda note: cursor_of(note.id)).as_bodies(CreditNoteBody.of)


@router.get(
    "/credit-notes/{credit_note_id}",
    response_model=CreditNoteBody,
    responses=problems(401, 422, _404="credit_note_not_found", _503="dependency_unavailable")
    | DOCUMENTS,
)
async def show_credit_note(
    credit_note_id: UUID,
    actions: ServiceActions,
    caller: SignedIn,
    format_: AskedFormat = None,
    accept: Accept = None,
) -> CreditNoteBody | Response:
    """A credit note as JSON, as a page or as a PDF, by `format` or `Accept`."""
    note = await actions.show_credit_notes(CreditNoteId(credit_note_id), by=caller.identity.user_id)
    wanted = wanted_format(format_, accept)
    if wanted != "json":
        return await printed(actions.print_invoice, note, wanted)
    return CreditNoteBody.of(note)
