"""Invoices and credit notes: what somebody has to pay for a month, and what is taken back of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from enum import Enum
from typing import Any, NewType
from uuid import UUID

from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.closing import Month
from services.billing.domain.giving_back import GIVEN_BACK, FamilyId
from services.billing.domain.tax import MICRODOLLARS_A_CENT, TaxLine, net_cents
from shared.ids import UserId
from shared.values import dataclass

InvoiceId = NewType("InvoiceId", UUID)
LineId = NewType("LineId", UUID)
CreditNoteId = NewType("CreditNoteId", UUID)

CURRENCY = "USD"


class LineKind(Enum):
    """Why a line stands on an invoice."""

    FEE = "fee"
    PRORATION = "proration"
    WRITE_OFF = "write_off"
    USAGE = "usage"
    LATE_USAGE = "late_usage"  # of an earlier month, or one whose price became known later
    CORRECTION = "correction"
    ROUNDING = "rounding"  # what earlier documents left over of a cent
    CREDIT = "credit"  # of a credit note


class Status(Enum):
    """A draft is worked out to be looked at, and is kept nowhere."""

    DRAFT = "draft"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class Source:
    """How many charges, entries or corrections a line stands for, and the digest of their ids."""

    count: int = 0
    digest: str = "0" * 32


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line. `facts` hold what its text is made of: tier, seats and span of a fee; tier,
    provider, model, operation, month, the counts and the operator's fee of usage.

    The vendor's cost is paid to the vendor, on the user's own key, and is no part of the amount;
    it is None while the price of what was used is unknown. `family`: that of a line that is not
    alone in it by its own id.
    """

    id: LineId
    position: int
    kind: LineKind
    facts: Mapping[str, Any]
    quantity: int
    unit: str
    vendor_cost_microusd: int | None
    amount_microusd: int
    source: Source = field(default_factory=Source)
    family: FamilyId | None = None

    @property
    def family_id(self) -> FamilyId:
        return self.family or FamilyId(self.id)

    @property
    def given_back_microusd(self) -> int:
        """What the amount is lessened by, since credit notes had given it back."""
        return int(self.facts.get(GIVEN_BACK, 0))


@dataclass(frozen=True, slots=True)
class Invoice:
    """What a holder owes for a month that is closed. Once it is final, nothing of it changes.

    Lines are whole micro-dollars, the total is whole cents; what the net sum has over its whole
    cents (half a cent at most) is carried to the holder's next invoice.
    """

    id: InvoiceId
    number: str | None
    holder: UserId
    is_organisation: bool
    month: Month
    status: Status
    lines: Sequence[InvoiceLine]
    tax_lines: Sequence[TaxLine]
    billed_to: BillingDetails | None
    issued_at: datetime | None
    due_at: datetime | None
    currency: str = CURRENCY

    @property
    def subtotal_microusd(self) -> int:
        return sum(line.amount_microusd for line in self.lines)

    @property
    def net_cents(self) -> int:
        return net_cents(self.lines)

    @property
    def tax_cents(self) -> int:
        return sum(tax.tax_cents for tax in self.tax_lines)

    @property
    def total_cents(self) -> int:
        return self.net_cents + self.tax_cents

    @property
    def rounding_carried_microusd(self) -> int:
        return self.subtotal_microusd - self.net_cents * MICRODOLLARS_A_CENT


@dataclass(frozen=True, slots=True)
class CreditLine:
    """What is taken back of one line of an invoice, with the sign of that line."""

    position: int
    line: InvoiceLine
    amount_microusd: int
    kind: LineKind = LineKind.CREDIT


@dataclass(frozen=True, slots=True)
class CreditNote:
    """What is taken back of an invoice: its amounts count against those of the invoice, and those
    that are taken back of a debit are positive here."""

    id: CreditNoteId
    number: str
    invoice_id: InvoiceId
    invoice_number: str
    holder: UserId
    is_organisation: bool
    month: Month
    lines: Sequence[CreditLine]
    net_cents: int
    tax_lines: Sequence[TaxLine]
    billed_to: BillingDetails | None
    reason: str
    issued_at: datetime
    issued_by: UserId
    currency: str = CURRENCY

    @property
    def subtotal_microusd(self) -> int:
        return sum(line.amount_microusd for line in self.lines)

    @property
    def tax_cents(self) -> int:
        return sum(tax.tax_cents for tax in self.tax_lines)

    @property
    def total_cents(self) -> int:
        return self.net_cents + self.tax_cents

    @property
    def rounding_carried_microusd(self) -> int:
        """What was credited beyond whole cents: the next invoice takes it off."""
        return self.subtotal_microusd - self.net_cents * MICRODOLLARS_A_CENT
