"""What an invoice would be."""

from __future__ import annotations

from services.billing.actions.make_invoices import drafts_of
from services.billing.domain.closing import Month
from services.billing.domain.errors import InvoiceNotFound
from services.billing.domain.invoice import Invoice, LineKind
from services.billing.domain.invoicing import UNTIL_NOW, Due, Scope, Terms
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.domain.subscription import Holder
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class PreviewInvoice:
    """A holder's next invoice as a draft, from what is known by now; nothing is written. Of a month
    that was invoiced the invoice itself. What an earlier one carried is no reason for another."""

    unit_of_work: NewUnitOfWork
    terms: Terms

    async def __call__(self, holder: Holder, month: Month) -> Invoice:
        """Raises InvoiceNotFound for a month that was invoiced with nothing of this holder's, or
        with nothing to invoice by now."""
        async with self.unit_of_work() as work:
            issued = await work.invoices.of_month(holder.id, month)
            if issued is not None:
                return issued
            scope = await self._scope(work, month)
            late = await work.invoices.late(scope, holder.id, aged_after=self.terms.aged_after)
            due = Due(holder, late)
            [draft] = await drafts_of(work, self.terms, scope, [due], keep=False)
        if all(line.kind is LineKind.ROUNDING for line in draft.lines):
            raise InvoiceNotFound
        return draft

    async def _scope(self, work: UnitOfWork, month: Month) -> Scope:
        last = await work.invoice_runs.last()
        run = await work.invoice_runs.get(month)
        if run is not None and run.finished_at is None:
            return run.scope
        if last is not None and month <= last.month:
            raise InvoiceNotFound
        closed = await work.periods.get(month)
        until = closed.closed_at if closed else UNTIL_NOW
        return Scope.following(last.scope if last else None, month, until)
