"""`/billing/admin/invoices`: invoice runs, credit notes, proof, and fees of usage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from services.billing.api.dependencies import (
    REPLAYED,
    BillingStaff,
    Cursor,
    NearMoment,
    ServiceActions,
)
from services.billing.api.invoice_body import (
    DOCUMENTS,
    Accept,
    AskedFormat,
    CreditNoteBody,
    InvoiceBody,
    InvoiceHeadBody,
    printed,
    wanted_format,
)
from services.billing.api.invoices import Limit, position_of, read_position
from services.billing.api.staff_looks import StaffLooking
from services.billing.domain.closing import Month
from services.billing.domain.crediting import CreditRequest, WantedCredit
from services.billing.domain.invoice import CreditNoteId, InvoiceId, LineId
from services.billing.domain.invoice_check import InvoiceCheck
from services.billing.domain.invoicing import Run
from services.billing.domain.subscription import Holder
from services.billing.domain.usage_fee import MOST_BASIS_POINTS, UsageFee
from shared.http.dollars import DollarsBeside
from shared.http.idempotency_key import RequiredIdempotencyKey
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/billing/admin", tags=["billing team"])

# How long a call stays with the run that it began; the worker goes on with it.
_STAYS = timedelta(seconds=3)
_MOST = 10**24

MonthName = Annotated[str, Field(max_length=7, description="`2026-11`", examples=["2026-11"])]
AskedMonth = Annotated[
    str | None, Query(alias="month", max_length=7, description="`2026-11`", examples=["2026-11"])
]


class WantedRun(BaseModel):
    """The month to make invoices for."""

    model_config = ConfigDict(extra="forbid")

    month: MonthName


class RunBody(BaseModel):
    """How far the invoices of a month have come: so many holders get one, so many still wait."""

    month: str
    begun_at: datetime
    begun_by: UUID | None
    holders: int
    invoices: int
    left: int
    finished_at: datetime | None

    @classmethod
    def of(cls, run: Run) -> RunBody:
        return cls(
            month=run.month.name,
            begun_at=run.begun_at,
            begun_by=run.begun_by,
            holders=run.holders,
            invoices=run.invoices,
            left=run.left,
            finished_at=run.finished_at,
        )


class LineCheckBody(DollarsBeside):
    """A line beside what the books say of what it stands for."""

    line_id: UUID
    position: int
    kind: str
    records: int
    ids_digest: str
    found_records: int
    found_ids_digest: str
    found_sum_microusd: int
    archived: int
    differences: list[str]


class CreditNoteCheckBody(BaseModel):
    """A credit note beside its lines and its invoice."""

    credit_note_id: UUID
    number: str
    differences: list[str]


class InvoiceCheckBody(BaseModel):
    """An invoice, worked out again; `sound` if no `differences` are named anywhere.

    Of a line: `count`, `ids`, `holder`, `vendor_cost`, `amount`, `facts`, `quantity`. Of the
    invoice or a credit note, whose rows keep the sums beside the lines: `subtotal`, `net`, `total`,
    `carried`, `taxed_net`. Of a line also `given_back` (of what it is about more was given back,
    by credit notes and on other lines, than was charged) and `family` (it corrects another line
    than it stands with). Of the invoice also `tax`, `positions`, `missing_records` (so many stand
    on no line that is there), `credit_notes` (one is gone) and `credited` (more than there is, or
    other cents and taxes than all of it comes to); of a credit note `holder` and `lines`.
    """

    invoice_id: UUID
    number: str | None
    sound: bool
    differences: list[str]
    missing_records: int
    lines: list[LineCheckBody]
    credit_notes: list[CreditNoteCheckBody]

    @classmethod
    def of(cls, check: InvoiceCheck) -> InvoiceCheckBody:
        return cls(
            invoice_id=check.invoice.id,
            number=check.invoice.number,
            sound=check.is_sound,
            differences=list(check.differences),
            missing_records=check.missing,
            credit_notes=[
                CreditNoteCheckBody(
                    credit_note_id=one.note.id,
                    number=one.note.number,
                    differences=list(one.differences),
                )
                for one in check.notes
            ],
            lines=[
                LineCheckBody(
                    line_id=one.line.id,
                    position=one.line.position,
                    kind=one.line.kind.value,
                    records=one.line.source.count,
                    ids_digest=one.line.source.digest,
                    found_records=one.found.source.count,
                    found_ids_digest=one.found.source.digest,
                    found_sum_microusd=one.found.sum_microusd,
                    archived=one.found.archived,
                    differences=list(one.differences),
                )
                for one in check.lines
            ],
        )


class WantedCreditBody(BaseModel):
    """A line to credit, with the sign of the line; without an amount all that is left of it, by
    corrections and what was given back of its period, too."""

    model_config = ConfigDict(extra="forbid")

    line_id: UUID
    amount_microusd: int | None = Field(None, ge=-_MOST, le=_MOST, strict=True)


class NewCreditNote(BaseModel):
    """What to take back of an invoice, and why; without `lines` all that is left of it. The reason
    stands on the credit note."""

    model_config = ConfigDict(extra="forbid")

    lines: list[WantedCreditBody] = Field(default_factory=list, max_length=1_000)
    reason: str = Field(min_length=3, max_length=500)


class NewUsageFee(BaseModel):
    """Basis points of the vendor's cost that a tier's usage is charged with, from a moment on."""

    model_config = ConfigDict(extra="forbid")

    tier: str = Field(min_length=1, max_length=40)
    basis_points: int = Field(ge=0, le=MOST_BASIS_POINTS, strict=True)
    effective_from: NearMoment | None = None


class UsageFeeBody(BaseModel):
    """A fee as it is kept."""

    tier: str
    basis_points: int
    effective_from: datetime
    set_by: UUID
    set_at: datetime

    @classmethod
    def of(cls, fee: UsageFee) -> UsageFeeBody:
        return cls(
            tier=fee.tier_name,
            basis_points=fee.basis_points,
            effective_from=fee.effective_from,
            set_by=fee.set_by,
            set_at=fee.set_at,
        )


@router.post(
    "/invoices/run",
    status_code=202,
    responses=problems(
        401, 403, _409="period_not_closed, invoices_out_of_order", _422="bad_month, …"
    ),
)
async def run_invoices(wanted: WantedRun, actions: ServiceActions, staff: BillingStaff) -> RunBody:
    """Make the invoices of a closed month. Ask again to see how far they are: it is harmless, and
    the worker makes them anyway, a minute after a month was closed."""
    month = Month.named(wanted.month)
    run = await actions.make_invoices(month, by=staff.identity.user_id, within=_STAYS)
    return RunBody.of(run)


@router.get(
    "/invoices/preview",
    response_model=InvoiceBody,
    responses=problems(401, 403, _404="invoice_not_found", _422="bad_month, …") | DOCUMENTS,
)
async def preview_invoice(
    actions: ServiceActions,
    look: StaffLooking,
    holder: Annotated[UUID, Query(description="A user, or an organisation.")],
    month: Annotated[str, Query(max_length=7, description="`2026-11`", examples=["2026-11"])],
    is_organisation: Annotated[bool, Query()] = False,
    format_: AskedFormat = None,
    accept: Accept = None,
) -> InvoiceBody | Response:
    """A holder's invoice of a month as a draft, from what is known by now; 404 while there would be
    none. Nothing is written but that you looked."""
    await look.at(holder)
    draft = await actions.preview_invoice(
        Holder(UserId(holder), is_organisation), Month.named(month)
    )
    wanted = wanted_format(format_, accept)
    if wanted != "json":
        return await printed(actions.print_invoice, draft, wanted)
    return InvoiceBody.of(draft, None)


@router.get("/invoices", responses=problems(401, 403, _422="bad_month, bad_cursor, …"))
async def list_all_invoices(
    actions: ServiceActions,
    look: StaffLooking,
    month: AskedMonth = None,
    holder: Annotated[UUID | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[InvoiceHeadBody]:
    """Invoices of a month, of a holder, or all, the newest month first. That you looked at one
    holder's is noted."""
    if holder is not None:
        await look.at(holder)
    found = await actions.list_invoices.all(
        holder=UserId(holder) if holder else None,
        month=Month.named(month) if month else None,
        after=read_position(cursor),
        most=limit + 1,
    )
    return Page.of(found, limit, position_of).as_bodies(InvoiceHeadBody.of_head)


@router.get(
    "/invoices/{invoice_id}",
    response_model=InvoiceBody,
    responses=problems(401, 403, 422, _404="invoice_not_found") | DOCUMENTS,
)
async def show_any_invoice(
    invoice_id: UUID,
    actions: ServiceActions,
    look: StaffLooking,
    format_: AskedFormat = None,
    accept: Accept = None,
) -> InvoiceBody | Response:
    """Anybody's invoice. That you looked is noted."""
    invoice, standing = await actions.show_invoice(InvoiceId(invoice_id), by=None)
    await look.at(invoice.holder)
    wanted = wanted_format(format_, accept)
    if wanted != "json":
        return await printed(actions.print_invoice, invoice, wanted)
    return InvoiceBody.of(invoice, standing)


@router.get(
    "/invoices/{invoice_id}/verify", responses=problems(401, 403, 422, _404="invoice_not_found")
)
async def verify_invoice(
    invoice_id: UUID, actions: ServiceActions, look: StaffLooking
) -> InvoiceCheckBody:
    """Work an invoice and its credit notes out again from the ledger, the charges and the fees that
    were in effect, and compare. That you looked is noted."""
    check = await actions.verify_invoice(InvoiceId(invoice_id))
    await look.at(check.invoice.holder)
    return InvoiceCheckBody.of(check)


@router.post(
    "/invoices/{invoice_id}/credit-notes",
    status_code=201,
    responses=problems(
        401,
        403,
        422,
        _404="invoice_not_found, invoice_line_not_found",
        _409="credit_exceeds_line, nothing_to_credit, credit_key_reused",
    ),
)
async def issue_credit_note(
    invoice_id: UUID,
    wanted: NewCreditNote,
    actions: ServiceActions,
    staff: BillingStaff,
    idempotency_key: RequiredIdempotencyKey,
    response: Response,
) -> CreditNoteBody:
    """Take back lines of an invoice, or all of it. Final at once; the same key again answers with
    the same note. What is corrected, written off or given back comes by itself on the next invoice,
    less what was credited: nothing is given back twice, and no more than is left after it."""
    request = CreditRequest(
        lines=[WantedCredit(LineId(one.line_id), one.amount_microusd) for one in wanted.lines],
        reason=wanted.reason,
        key=idempotency_key,
        by=staff.identity.user_id,
    )
    note, is_known = await actions.issue_credit_note.once(InvoiceId(invoice_id), request)
    if is_known:
        response.headers.update(REPLAYED)
    return CreditNoteBody.of(note)


@router.get("/credit-notes", responses=problems(401, 403, _422="bad_cursor, …"))
async def list_all_credit_notes(
    actions: ServiceActions,
    look: StaffLooking,
    holder: Annotated[UUID | None, Query()] = None,
    invoice_id: Annotated[UUID | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[CreditNoteBody]:
    """Credit notes of a holder, of an invoice, or all, the newest first. That you looked at one
    holder's is noted."""
    found = await actions.show_credit_notes.all(
        holder=UserId(holder) if holder else None,
        invoice_id=InvoiceId(invoice_id) if invoice_id else None,
        after=CreditNoteId(read_cursor(cursor, UUID)[0]) if cursor else None,
        most=limit + 1,
    )
    page = Page.of(found, limit, lambda note: cursor_of(note.id))
    if holder is not None:
        await look.at(holder)
    elif invoice_id is not None and page.data:
        await look.at(page.data[0].holder)
    return page.as_bodies(CreditNoteBody.of)


@router.post(
    "/usage-fees",
    status_code=201,
    responses=problems(
        401,
        403,
        _409="usage_fee_exists",
        _422="unknown_tier, usage_fee_not_for_seats, effective_from_past, …",
    ),
)
async def set_usage_fee(
    wanted: NewUsageFee, actions: ServiceActions, staff: BillingStaff
) -> UsageFeeBody:
    """Charge a tier's usage from a moment on, which may lie a minute in the past at most; without
    one from now on. Earlier usage keeps its."""
    since = wanted.effective_from.astimezone(UTC) if wanted.effective_from else None
    fee = await actions.set_usage_fee(
        wanted.tier, wanted.basis_points, effective_from=since, by=staff.identity.user_id
    )
    return UsageFeeBody.of(fee)


@router.get("/usage-fees", responses=problems(401, 403))
async def list_usage_fees(actions: ServiceActions, _staff: BillingStaff) -> Page[UsageFeeBody]:
    """All fees there are. A tier without one is charged nothing for usage."""
    return Page(data=[UsageFeeBody.of(fee) for fee in await actions.list_usage_fees()])
