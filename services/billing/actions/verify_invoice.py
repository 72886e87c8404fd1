"""Prove that an invoice is what the books say."""

from __future__ import annotations

from services.billing.domain.errors import InvoiceNotFound
from services.billing.domain.invoice import InvoiceId
from services.billing.domain.invoice_check import InvoiceCheck, checked
from services.billing.domain.ports import NewUnitOfWork
from shared.values import dataclass

_MOST_NOTES = 10_000


@dataclass(frozen=True, slots=True)
class VerifyInvoice:
    """Work an invoice and its credit notes out again: each line from what it covers, by the rates
    that were in effect, and the sums from the lines. Raises InvoiceNotFound.

    Entries in an archive's file are compared by their ids alone.
    """

    unit_of_work: NewUnitOfWork

    async def __call__(self, invoice_id: InvoiceId) -> InvoiceCheck:
        async with self.unit_of_work() as work:
            invoice = await work.invoices.get(invoice_id)
            if invoice is None:
                raise InvoiceNotFound
            notes = await work.credit_notes.of(
                None, invoice_id=invoice_id, after=None, most=_MOST_NOTES
            )
            proof = await work.invoices.proof(invoice)
        return checked(invoice, notes, proof)
