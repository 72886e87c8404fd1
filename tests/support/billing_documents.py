"""Billing details, invoices and rules of tax to test with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from services.billing.domain.balance import Account
from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.closing import Month
from services.billing.domain.invoice import (
    CreditLine,
    CreditNote,
    CreditNoteId,
    Invoice,
    InvoiceId,
    InvoiceLine,
    LineId,
    LineKind,
    Status,
)
from services.billing.domain.seller import Seller
from services.billing.domain.subscription import Holder
from services.billing.domain.tax import TaxLine, net_cents
from shared.ids import UserId


def some_details(**facts: Any) -> BillingDetails:
    """A business in Berlin, but for what is said."""
    return BillingDetails.checked(
        **{
            "name": "Example Widgets GmbH",
            "address_lines": ["Beispielstraße 12", "Hinterhaus"],
            "city": "Berlin",
            "postal_code": "10999",
            "country": "DE",
            "vat_id": "DE 123 456 789",
            "email": "accounts@example.com",
            "purchase_order": "PO-2026-0042",
            **facts,
        }
    )


@dataclass
class MemoryAccounts:
    """The sums of books in memory."""

    kept: dict[UserId, Account] = field(default_factory=dict)

    async def of(self, holder: UserId) -> Account:
        return self.kept.get(holder, Account())


@dataclass
class MemoryDetails:
    """Billing details in memory."""

    kept: dict[UserId, BillingDetails] = field(default_factory=dict)

    async def of(self, holder_id: UserId) -> BillingDetails | None:
        return self.kept.get(holder_id)

    async def keep(self, holder: Holder, details: BillingDetails, at: datetime) -> None:
        self.kept[holder.id] = details

    async def forget(self, holder_id: UserId, at: datetime) -> None:
        self.kept.pop(holder_id, None)

    async def drop_left(self, *, before: datetime) -> int:
        return 0


SELLER = Seller(
    name="Companion Example Ltd.",
    address_lines=("1 Sample Street", "Dublin D02 XX00"),
    country="IE",
    tax_ids=(("VAT ID", "IE1234567FA"), ("Company no.", "000000")),
    bank_lines=("IBAN IE00 XXXX 0000 0000 0000 00", "BIC EXAMPLE0"),
    contact_lines=("billing@example.com", "https://example.com"),
)


def a_fee(position: int = 1, **facts: Any) -> InvoiceLine:
    """A month of pro, paid ahead: 15 dollars a seat."""
    return InvoiceLine(
        **{
            "id": LineId(UUID(int=position)),
            "position": position,
            "kind": LineKind.FEE,
            "facts": {
                "tier": "pro",
                "seats": 3,
                "begins": "2026-11-04T10:15:00+00:00",
                "ends": "2026-12-04T10:15:00+00:00",
            },
            "quantity": 3,
            "unit": "seats",
            "vendor_cost_microusd": None,
            "amount_microusd": 45_000_000,
            **facts,
        }
    )


def some_usage(position: int = 2, **facts: Any) -> InvoiceLine:
    """A month of one model, of which the operator takes 2.5 percent."""
    return InvoiceLine(
        **{
            "id": LineId(UUID(int=position)),
            "position": position,
            "kind": LineKind.USAGE,
            "facts": {
                "tier": "pro",
                "provider": "openai",
                "model": "gpt-6-luna",
                "operation": "chat",
                "month": "2026-11",
                "input_tokens": 1_250_400,
                "output_tokens": 310_022,
                "requests": 1_234,
                "fee_basis_points": 250,
            },
            "quantity": 1_560_422,
            "unit": "tokens",
            "vendor_cost_microusd": 8_412_205,
            "amount_microusd": 210_305,
            **facts,
        }
    )


def an_invoice(*lines: InvoiceLine, **facts: Any) -> Invoice:
    """A final invoice of November 2026."""
    of = lines or (a_fee(), some_usage())
    return Invoice(
        **{
            "id": InvoiceId(UUID(int=7)),
            "number": "INV-2026-000042",
            "holder": UserId(UUID(int=8)),
            "is_organisation": False,
            "month": Month(date(2026, 11, 1)),
            "status": Status.FINAL,
            "lines": of,
            "tax_lines": (TaxLine.at_rate("VAT", 2_300, net_cents(of)),),
            "billed_to": some_details(),
            "issued_at": datetime(2026, 12, 1, 3, tzinfo=UTC),
            "due_at": datetime(2026, 12, 15, 3, tzinfo=UTC),
            **facts,
        }
    )


def a_credit_note(invoice: Invoice, **facts: Any) -> CreditNote:
    """All of an invoice, taken back."""
    return CreditNote(
        **{
            "id": CreditNoteId(UUID(int=9)),
            "number": "CN-2026-000003",
            "invoice_id": invoice.id,
            "invoice_number": invoice.number or "",
            "holder": invoice.holder,
            "is_organisation": invoice.is_organisation,
            "month": invoice.month,
            "lines": [
                CreditLine(line.position, line, line.amount_microusd) for line in invoice.lines
            ],
            "net_cents": invoice.net_cents,
            "tax_lines": invoice.tax_lines,
            "billed_to": invoice.billed_to,
            "reason": "Charged twice",
            "issued_at": datetime(2026, 12, 3, 9, tzinfo=UTC),
            "issued_by": UserId(UUID(int=10)),
            **facts,
        }
    )
