"""What an invoice would be."""

from __future__ import annotations

from dataclasses import replace

from services.billing.actions.make_invoices import drafts_of
from services.billing.domain.closing import Month
from services.billing.domain.errors import InvoiceNotFound
from services.billing.domain.invoice import Invoice, LineKind
from services.billing.domain.invoicing import UNTIL_NOW, Due, Run, Scope, Terms, month_before
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.domain.subscription import Holder
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class PreviewInvoice:
    """A holder's next invoice as a draft, from what is known by now; nothing is written. Of a month
    that was invoiced the invoice itself. What an earlier one carried is no reason for another.

    While a month before it has no invoice yet, a month is previewed by itself: what was charged,
    used or put right before stands on that one, and what it will carry is not known.
    """

    unit_of_work: NewUnitOfWork
    terms: Terms

    async def __call__(self, holder: Holder, month: Month) -> Invoice:
        """Raises InvoiceNotFound for a month that was invoiced with nothing of this holder's, or
        with nothing to invoice by now."""
        async with self.unit_of_work() as work:
            issued = await work.invoices.of_month(holder.id, month)
            if issued is not None:
                return issued
            scope = await self._scope(work, holder, month)
            late = await work.invoices.late(scope, holder.id, aged_after=self.terms.aged_after)
            due = Due(holder, late)
            [draft] = await drafts_of(work, self.terms, scope, [due], keep=False)
        if all(line.kind is LineKind.ROUNDING for line in draft.lines):
            raise InvoiceNotFound
        return draft

    async def _scope(self, work: UnitOfWork, holder: Holder, month: Month) -> Scope:
        last = await work.invoice_runs.last()
        run = await work.invoice_runs.get(month)
        if run is not None and run.finished_at is None:
            return run.scope
        if last is not None and month <= last.month:
            raise InvoiceNotFound
        before = await _scope_before(work, month, last)
        closed = await work.periods.get(month)
        scope = Scope.following(before, month, closed.closed_at if closed else UNTIL_NOW)
        if before is None or await _is_invoiced(work, holder, before.month, last):
            return scope
        return replace(scope, by_itself=True)


async def _scope_before(work: UnitOfWork, month: Month, last: Run | None) -> Scope | None:
    """What the invoices of the month before cover, or will; None where there will be none, since
    invoices begin with this month."""
    before = month_before(month)
    if last is not None and before <= last.month:
        return last.scope
    if last is None:
        first = await work.invoice_runs.next_closed()
        if first is not None and first.month == month:
            return None
    closed = await work.periods.get(before)
    if closed is None:
        return Scope.following(None, before, UNTIL_NOW)
    return Scope.of(await _scope_before(work, before, last), closed)


async def _is_invoiced(work: UnitOfWork, holder: Holder, month: Month, last: Run | None) -> bool:
    """Whether all that is due of a month is on an invoice, of this holder's at least."""
    if last is None or last.month < month:
        return False
    if last.finished_at is not None:
        return True
    return await work.invoices.of_month(holder.id, month) is not None
