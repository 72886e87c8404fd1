"""Invoices and credit notes as they are read by programs, and as documents."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from fastapi import Header, Query, Response
from pydantic import BaseModel

from services.billing.actions.show_invoice import PrintInvoice
from services.billing.api.accept import JSON, liked_best
from services.billing.api.page_policy import policy_of
from services.billing.api.record_body import RecordBody
from services.billing.api.subscription import LineBody as ChargeBody
from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.correction import Correction
from services.billing.domain.invoice import CreditLine, CreditNote, Invoice, InvoiceLine
from services.billing.domain.invoice_ports import (
    CoveredRecord,
    InvoicedAs,
    InvoiceHead,
    Standing,
)
from services.billing.domain.invoice_renderer import Document
from services.billing.domain.tax import TaxLine
from shared.http.dollars import DollarsBeside, in_dollars

Format: TypeAlias = Literal["json", "html", "pdf"]
_MEDIA: dict[Format, str] = {
    "json": JSON,
    "html": "text/html",
    "pdf": "application/pdf",
}
AskedFormat = Annotated[
    Format | None, Query(alias="format", description="Before `Accept`; JSON without either.")
]
Accept = Annotated[str | None, Header(max_length=1_000)]
DOCUMENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {media: {} for media in _MEDIA.values()}}
}


class TaxBody(BaseModel):
    """Tax at one rate."""

    name: str
    rate_basis_points: int
    net_cents: int
    tax_cents: int
    note: str | None

    @classmethod
    def of(cls, tax: TaxLine) -> TaxBody:
        return cls(**tax.facts())


class BilledToBody(BaseModel):
    """Whom it was made out to, as they said then."""

    name: str
    address_lines: list[str]
    city: str
    postal_code: str
    country: str
    vat_id: str | None
    email: str | None
    purchase_order: str | None

    @classmethod
    def of(cls, details: BillingDetails | None) -> BilledToBody | None:
        return None if details is None else cls(**details.facts())


class InvoiceLineBody(DollarsBeside):
    """A line. `vendor_cost_microusd` is paid to the vendor and no part of the amount; null for
    usage whose price is unknown. `ids_digest` is the exclusive or of the MD5 of the ids of all that
    the line stands for (`…/lines/{line_id}/records`), each written in small letters."""

    id: UUID
    position: int
    kind: str
    facts: dict[str, Any]
    quantity: int
    unit: str
    vendor_cost_microusd: int | None
    amount_microusd: int
    records: int
    ids_digest: str

    @classmethod
    def of(cls, line: InvoiceLine) -> InvoiceLineBody:
        return cls(
            id=line.id,
            position=line.position,
            kind=line.kind.value,
            facts={**line.facts, **in_dollars(line.facts)},
            quantity=line.quantity,
            unit=line.unit,
            vendor_cost_microusd=line.vendor_cost_microusd,
            amount_microusd=line.amount_microusd,
            records=line.source.count,
            ids_digest=line.source.digest,
        )


class InvoiceHeadBody(DollarsBeside):
    """An invoice without its lines. What a holder has paid counts for their oldest invoices first;
    `open_cents` is what is left to pay of this one."""

    id: UUID | None
    number: str | None
    status: str
    holder_id: UUID
    is_organisation: bool
    month: str
    currency: str
    net_cents: int
    tax_cents: int
    total_cents: int
    rounding_carried_microusd: int
    issued_at: datetime | None
    due_at: datetime | None
    credited_cents: int
    paid_cents: int
    open_cents: int

    @classmethod
    def of_head(cls, head: InvoiceHead) -> InvoiceHeadBody:
        return cls(
            id=head.id,
            number=head.number,
            status="final",
            holder_id=head.holder,
            is_organisation=head.is_organisation,
            month=head.month.name,
            currency="USD",
            net_cents=head.net_cents,
            tax_cents=head.tax_cents,
            total_cents=head.total_cents,
            rounding_carried_microusd=head.carried_microusd,
            issued_at=head.issued_at,
            due_at=head.due_at,
            credited_cents=head.standing.credited_cents,
            paid_cents=head.standing.paid_cents,
            open_cents=head.standing.open_cents,
        )


class InvoiceBody(InvoiceHeadBody):
    """An invoice; a draft has no id and no number, and is kept nowhere."""

    subtotal_microusd: int
    lines: list[InvoiceLineBody]
    tax_lines: list[TaxBody]
    billed_to: BilledToBody | None

    @classmethod
    def of(cls, invoice: Invoice, standing: Standing | None) -> InvoiceBody:
        is_draft = invoice.number is None
        return cls(
            id=None if is_draft else invoice.id,
            number=invoice.number,
            status=invoice.status.value,
            holder_id=invoice.holder,
            is_organisation=invoice.is_organisation,
            month=invoice.month.name,
            currency=invoice.currency,
            net_cents=invoice.net_cents,
            tax_cents=invoice.tax_cents,
            total_cents=invoice.total_cents,
            rounding_carried_microusd=invoice.rounding_carried_microusd,
            issued_at=invoice.issued_at,
            due_at=invoice.due_at,
            credited_cents=standing.credited_cents if standing else 0,
            paid_cents=standing.paid_cents if standing else 0,
            open_cents=standing.open_cents if standing else max(invoice.total_cents, 0),
            subtotal_microusd=invoice.subtotal_microusd,
            lines=[InvoiceLineBody.of(line) for line in invoice.lines],
            tax_lines=[TaxBody.of(tax) for tax in invoice.tax_lines],
            billed_to=BilledToBody.of(invoice.billed_to),
        )


class CreditLineBody(DollarsBeside):
    """What is taken back of a line."""

    position: int
    line_id: UUID
    line_position: int
    line_kind: str
    amount_microusd: int

    @classmethod
    def of(cls, line: CreditLine) -> CreditLineBody:
        return cls(
            position=line.position,
            line_id=line.line.id,
            line_position=line.line.position,
            line_kind=line.line.kind.value,
            amount_microusd=line.amount_microusd,
        )


class CreditNoteBody(DollarsBeside):
    """What is taken back of an invoice: positive where less is owed by it."""

    id: UUID
    number: str
    invoice_id: UUID
    invoice_number: str
    holder_id: UUID
    is_organisation: bool
    month: str
    currency: str
    subtotal_microusd: int
    net_cents: int
    tax_cents: int
    total_cents: int
    rounding_carried_microusd: int
    reason: str
    issued_at: datetime
    lines: list[CreditLineBody]
    tax_lines: list[TaxBody]
    billed_to: BilledToBody | None

    @classmethod
    def of(cls, note: CreditNote) -> CreditNoteBody:
        return cls(
            id=note.id,
            number=note.number,
            invoice_id=note.invoice_id,
            invoice_number=note.invoice_number,
            holder_id=note.holder,
            is_organisation=note.is_organisation,
            month=note.month.name,
            currency=note.currency,
            subtotal_microusd=note.subtotal_microusd,
            net_cents=note.net_cents,
            tax_cents=note.tax_cents,
            total_cents=note.total_cents,
            rounding_carried_microusd=note.rounding_carried_microusd,
            reason=note.reason,
            issued_at=note.issued_at,
            lines=[CreditLineBody.of(line) for line in note.lines],
            tax_lines=[TaxBody.of(tax) for tax in note.tax_lines],
            billed_to=BilledToBody.of(note.billed_to),
        )


class CoveredCorrectionBody(DollarsBeside):
    """A correction of an entry."""

    event_id: UUID
    kind: str
    reason: str
    made_at: datetime
    cost_microusd: int

    @classmethod
    def of(cls, correction: Correction) -> CoveredCorrectionBody:
        return cls(
            event_id=correction.event_id,
            kind=correction.kind,
            reason=correction.reason,
            made_at=correction.made_at,
            cost_microusd=correction.deltas.cost_microusd,
        )


class CoveredBody(BaseModel):
    """Something that a line stands for: `charge`, `usage`, `priced` (its price became known later),
    `correction` or `carry` (the rest of an earlier document). An entry of the ledger that is in the
    operator's archive is shown by its id alone."""

    id: UUID
    covers: str
    usage: RecordBody | None
    charge: ChargeBody | None
    correction: CoveredCorrectionBody | None

    @classmethod
    def of(cls, record: CoveredRecord) -> CoveredBody:
        return cls(
            id=record.source_id,
            covers=record.aspect,
            usage=RecordBody.of(record.entry) if record.entry else None,
            charge=ChargeBody.of(record.charge) if record.charge else None,
            correction=CoveredCorrectionBody.of(record.correction) if record.correction else None,
        )


class InvoicedAsBody(BaseModel):
    """Where it stands on an invoice."""

    covers: str
    invoice_id: UUID
    number: str
    line_id: UUID
    position: int
    kind: str

    @classmethod
    def of(cls, found: InvoicedAs) -> InvoicedAsBody:
        return cls(
            covers=found.aspect,
            invoice_id=found.invoice_id,
            number=found.number,
            line_id=found.line_id,
            position=found.position,
            kind=found.kind.value,
        )


def wanted_format(asked: Format | None, accept: str | None) -> Format:
    """By `?format=`, else what `Accept` likes best; else JSON."""
    if asked is not None:
        return asked
    by_media: dict[str, Format] = {media: name for name, media in _MEDIA.items()}
    return by_media[liked_best(accept, list(by_media))]


async def printed(documents: PrintInvoice, document: Document, format_: Format) -> Response:
    """The document as a page or as a file."""
    name = (document.number or "draft").lower()
    headers = {
        "vary": "accept",
        "cache-control": "private, no-store",
        "content-disposition": f'inline; filename="{name}.{format_}"',
        "x-content-type-options": "nosniff",
    }
    if format_ == "pdf":
        # No policy: in a sandbox browsers refuse to show the file at all.
        file = await documents.pdf(document)
        return Response(file, media_type=_MEDIA[format_], headers=headers)
    page = documents.html(document)
    headers["content-security-policy"] = policy_of(page)
    return Response(page, media_type=_MEDIA[format_], headers=headers)
