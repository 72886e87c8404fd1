"""Prove that an invoice is what the books say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.billing.domain.errors import InvoiceNotFound
from services.billing.domain.invoice import Invoice, InvoiceId, InvoiceLine, LineKind
from services.billing.domain.invoice_ports import Found
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.tax import divided_half_up

_WHOLE = 10_000
_USAGE = (LineKind.USAGE, LineKind.LATE_USAGE, LineKind.CORRECTION)


@dataclass(frozen=True, slots=True)
class LineCheck:
    """A line beside what its sources come to; `differences` names what is not the same."""

    line: InvoiceLine
    found: Found
    differences: Sequence[str]


@dataclass(frozen=True, slots=True)
class InvoiceCheck:
    """All lines of an invoice, compared."""

    invoice: Invoice
    lines: Sequence[LineCheck]

    @property
    def is_sound(self) -> bool:
        return not any(check.differences for check in self.lines)


@dataclass(frozen=True, slots=True)
class VerifyInvoice:
    """Work an invoice out again: how many ids each line covers, their digest, what they cost and
    what is charged for them. Raises InvoiceNotFound.

    Entries in an archive's file are compared by their ids alone.
    """

    unit_of_work: NewUnitOfWork

    async def __call__(self, invoice_id: InvoiceId) -> InvoiceCheck:
        async with self.unit_of_work() as work:
            invoice = await work.invoices.get(invoice_id)
            if invoice is None:
                raise InvoiceNotFound
            found = await work.invoices.found(invoice_id)
        lines = [
            LineCheck(line, found[line.id], _of(line, found[line.id])) for line in invoice.lines
        ]
        return InvoiceCheck(invoice, lines)


def _of(line: InvoiceLine, found: Found) -> Sequence[str]:
    differences = []
    if line.source.count != found.source.count:
        differences.append("count")
    if line.source.digest != found.source.digest:
        differences.append("ids")
    if found.archived:
        return differences
    if line.kind in _USAGE:
        fee = int(line.facts.get("fee_basis_points", 0))
        if (line.vendor_cost_microusd or 0) != found.sum_microusd:
            differences.append("vendor_cost")
        if line.amount_microusd != divided_half_up(found.sum_microusd * fee, _WHOLE):
            differences.append("amount")
    elif line.amount_microusd != found.sum_microusd:
        differences.append("amount")
    return differences
