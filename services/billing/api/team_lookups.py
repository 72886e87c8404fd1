"""`/billing/admin`: what the billing team looks up to answer a question.

One call, what a line of an invoice stands for, a credit note, a holder's payments, a price.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from services.billing.api.admin import PriceBody
from services.billing.api.admin_subscriptions import PlanPriceBody
from services.billing.api.dependencies import BillingStaff, Cursor, ServiceActions
from services.billing.api.invoice_body import (
    DOCUMENTS,
    Accept,
    AskedFormat,
    CoveredBody,
    CreditNoteBody,
    printed,
    wanted_format,
)
from services.billing.api.invoices import Limit
from services.billing.api.records import RecordLifeBody
from services.billing.api.staff_looks import StaffLooking
from services.billing.domain.invoice import CreditNoteId, InvoiceId, LineId
from services.billing.domain.payment import Payment, PaymentId
from services.billing.domain.price_book import PriceId
from services.billing.domain.rerating import ReratingProgress
from shared.http.dollars import DollarsBeside
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems
from shared.ids import EventId, UserId

router = APIRouter(prefix="/billing/admin", tags=["billing team"])


class AnybodysRecordBody(RecordLifeBody):
    """One paid call with all that happened to it here, and whose it is."""

    user_id: UUID


class PaymentBody(DollarsBeside):
    """A payment as it stands in the books. `kind`: `order` (a change that waits for it), `renewal`,
    `receipt` (booked by hand), `refund` or `dispute`; `state`: `open`, `failed`, `paid`, `void`
    (nobody waits for it any more) or `unused` (it came and changed nothing).

    `can_be_marked_paid`: money that came for it is told by `…/{payment_id}/paid`. `settles`: the
    unused payment that was dealt with by it.
    """

    payment_id: UUID
    holder_id: UUID
    is_organisation: bool
    kind: str
    state: str
    provider: str
    tier: str | None
    seats: int | None
    amount_microusd: int
    reference: str | None
    note: str | None
    asked_by: UUID
    created_at: datetime
    settled_at: datetime | None
    settles: UUID | None
    can_be_marked_paid: bool

    @classmethod
    def of(cls, payment: Payment) -> PaymentBody:
        return cls(
            payment_id=payment.id,
            holder_id=payment.holder,
            is_organisation=payment.is_organisation,
            kind=payment.kind.value,
            state=payment.state.value,
            provider=payment.provider,
            tier=payment.tier_name,
            seats=payment.seats,
            amount_microusd=payment.amount_microusd,
            reference=payment.reference,
            note=payment.note,
            asked_by=payment.asked_by,
            created_at=payment.created_at,
            settled_at=payment.settled_at,
            settles=payment.settles,
            can_be_marked_paid=payment.can_be_paid_by_hand,
        )


@router.get(
    "/usage/records/{event_id}",
    responses=problems(401, 403, 422, _404="usage_record_not_found"),
)
async def explain_anybodys_record(
    event_id: UUID, actions: ServiceActions, look: StaffLooking
) -> AnybodysRecordBody:
    """The life of anybody's event: received, rated by which price, corrected, and on which line of
    which invoice it stands. That you looked is noted."""
    corrected = await actions.explain_usage.with_corrections(EventId(event_id), by=None)
    invoiced = await actions.explain_usage.invoiced_as(corrected)
    holder = corrected.entry.user_id
    await look.at(holder)
    told = RecordLifeBody.telling(corrected, invoiced)
    return AnybodysRecordBody(**dict(told), user_id=holder)


@router.get(
    "/invoices/{invoice_id}/lines/{line_id}/records",
    responses=problems(401, 403, 422, _404="invoice_not_found, invoice_line_not_found"),
)
async def list_any_line_records(
    invoice_id: UUID,
    line_id: UUID,
    actions: ServiceActions,
    look: StaffLooking,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[CoveredBody]:
    """Everything that a line of anybody's invoice stands for, by id. That you looked is noted."""
    found = await actions.show_invoice.records(
        InvoiceId(invoice_id),
        LineId(line_id),
        by=None,
        after=read_cursor(cursor, UUID)[0] if cursor else None,
        most=limit + 1,
    )
    invoice, _standing = await actions.show_invoice(InvoiceId(invoice_id), by=None)
    await look.at(invoice.holder)
    page = Page.of(found, limit, lambda record: cursor_of(record.source_id))
    return page.as_bodies(CoveredBody.of)


@router.get(
    "/credit-notes/{credit_note_id}",
    response_model=CreditNoteBody,
    responses=problems(401, 403, 422, _404="credit_note_not_found") | DOCUMENTS,
)
async def show_any_credit_note(
    credit_note_id: UUID,
    actions: ServiceActions,
    look: StaffLooking,
    format_: AskedFormat = None,
    accept: Accept = None,
) -> CreditNoteBody | Response:
    """Anybody's credit note as JSON, as a page or as a PDF. That you looked is noted."""
    note = await actions.show_credit_notes(CreditNoteId(credit_note_id), by=None)
    await look.at(note.holder)
    wanted = wanted_format(format_, accept)
    if wanted != "json":
        return await printed(actions.print_invoice, note, wanted)
    return CreditNoteBody.of(note)


@router.get("/payments", responses=problems(401, 403, _422="bad_cursor, …"))
async def list_payments(
    actions: ServiceActions,
    look: StaffLooking,
    holder: Annotated[UUID | None, Query(description="A user, or an organisation.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[PaymentBody]:
    """What was asked for, came and went back, of a holder or of all, the newest first. That you
    looked at one holder's is noted."""
    if holder is not None:
        await look.at(holder)
    found = await actions.list_payments(
        holder=None if holder is None else UserId(holder),
        before=PaymentId(read_cursor(cursor, UUID)[0]) if cursor else None,
        most=limit + 1,
    )
    return Page.of(found, limit, lambda payment: cursor_of(payment.id)).as_bodies(PaymentBody.of)


@router.get("/prices", responses=problems(401, 403, _422="bad_cursor, …"))
async def list_prices(
    actions: ServiceActions,
    _staff: BillingStaff,
    provider: Annotated[str | None, Query(min_length=1, max_length=100)] = None,
    model: Annotated[str | None, Query(min_length=1, max_length=300)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[PriceBody]:
    """Your own prices of models, the one that was set last first. What has none is rated by the
    vendors' public lists."""
    found = await actions.list_price_overrides(
        provider,
        model,
        before=PriceId(read_cursor(cursor, UUID)[0]) if cursor else None,
        most=limit + 1,
    )
    return Page.of(found, limit, lambda price: cursor_of(price.id)).as_bodies(PriceBody.of)


class ReratingBody(BaseModel):
    """A price that is to hold for what was rated already, on its way through the ledger:
    `corrected` entries cost another sum by it, `left` are still to be looked at."""

    price: PriceBody
    asked_by: UUID
    asked_at: datetime
    corrected: int
    left: int

    @classmethod
    def of(cls, progress: ReratingProgress) -> ReratingBody:
        return cls(
            price=PriceBody.of(progress.price),
            asked_by=progress.asked_by,
            asked_at=progress.asked_at,
            corrected=progress.corrected,
            left=progress.left,
        )


@router.get("/prices/rerating", responses=problems(401, 403))
async def list_reratings(actions: ServiceActions, _staff: BillingStaff) -> Page[ReratingBody]:
    """Prices set with `rerate` that are not applied to all of the ledger yet, the oldest first.
    What is left of them keeps its months open (`rerating_waiting`)."""
    return Page(data=[ReratingBody.of(one) for one in await actions.rerate_usage.waiting()])


@router.get("/plan-prices", responses=problems(401, 403))
async def list_plan_prices(actions: ServiceActions, _staff: BillingStaff) -> Page[PlanPriceBody]:
    """Your own prices of tiers, the latest first. A tier without one costs what it is built in
    with (`GET /billing/plans`)."""
    prices, _now = await actions.show_plan_prices()
    return Page(data=[PlanPriceBody.of(price) for price in prices.own])
