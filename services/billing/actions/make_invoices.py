"""Make the invoices of a month that is closed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from services.billing.domain.closing import Month
from services.billing.domain.errors import InvoicesOutOfOrder, PeriodNotClosed
from services.billing.domain.invoice import Invoice, InvoiceId
from services.billing.domain.invoicing import Due, Run, Scope, Terms
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.ids import UserId, uuid7
from shared.values import dataclass

PAGE = 500
FINALIZED = "invoice.finalized"


@dataclass(frozen=True, slots=True)
class MakeInvoices:
    """An invoice for everybody of whom something is not invoiced yet, final at once.

    First a list of them is made, then a page of them at a time gets invoices, each page in one
    transaction with its numbers. Whoever comes to a page at the same time waits and takes the next
    one; what is interrupted is gone on with.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock
    terms: Terms
    page: int = PAGE
    stopwatch: Callable[[], float] = time.monotonic

    async def __call__(self, month: Month, *, by: UserId | None, within: timedelta) -> Run:
        """Begin where it is the month's turn, and go on for some time; the clock's job does the
        rest. Raises PeriodNotClosed and InvoicesOutOfOrder."""
        await self._begin(month, by)
        return await self._go_on(month, within)

    async def next_one(self, *, within: timedelta) -> Run | None:
        """The same for the month whose turn it is; None when there is nothing to do."""
        async with self.unit_of_work() as work:
            run = await work.invoice_runs.unfinished()
            closed = None if run else await work.invoice_runs.next_closed()
        if run is not None:
            return await self._go_on(run.month, within)
        return await self(closed.month, by=None, within=within) if closed else None

    async def _begin(self, month: Month, by: UserId | None) -> None:
        async with self.unit_of_work() as work:
            await work.invoice_runs.take_turn()
            if await work.invoice_runs.get(month) is not None:
                return
            if await work.periods.get(month) is None:
                raise PeriodNotClosed(month.name)
            closed = await work.invoice_runs.next_closed()
            if closed is None or closed.month != month:
                raise InvoicesOutOfOrder(month.name, await work.invoice_runs.next_name())
            last = await work.invoice_runs.last()
            if last is not None and last.finished_at is None:
                raise InvoicesOutOfOrder(month.name, last.month.name)
            scope = Scope.of(last.scope if last else None, closed)
            await work.invoice_runs.begin(
                scope, at=self.clock.now(), by=by, aged_after=self.terms.aged_after
            )

    async def _go_on(self, month: Month, within: timedelta) -> Run:
        ends = self.stopwatch() + within.total_seconds()
        while True:
            run = await self._one_page(month)
            if run.finished_at is not None or self.stopwatch() >= ends:
                return run

    async def _one_page(self, month: Month) -> Run:
        async with self.unit_of_work() as work:
            run = await work.invoice_runs.hold(month)
            assert run is not None, "a run that was begun is there"
            if run.finished_at is not None:
                return run
            dues = await work.invoice_runs.take(month, most=self.page)
            if dues:
                await self._issue(work, run.scope, dues)
            is_last = len(dues) < self.page
            finished_at = self.clock.now() if is_last else None
            await work.invoice_runs.went_on(month, invoices=len(dues), finished_at=finished_at)
            after = await work.invoice_runs.get(month)
        assert after is not None
        return after

    async def _issue(self, work: UnitOfWork, scope: Scope, dues: Sequence[Due]) -> None:
        now = self.clock.now()
        drafts = await drafts_of(work, self.terms, scope, dues, keep=True)
        first = await work.invoices.first_number(
            self.terms.invoice_series, now.year, count=len(drafts)
        )
        issued = [
            self.terms.issued(draft, number, now) for number, draft in enumerate(drafts, first)
        ]
        await work.invoices.add(issued)
        for invoice in issued:
            await work.webhooks.tell(
                invoice.holder, FINALIZED, _told(invoice), effect_key=f"invoice/{invoice.id}"
            )


async def drafts_of(
    work: UnitOfWork, terms: Terms, scope: Scope, dues: Sequence[Due], *, keep: bool
) -> list[Invoice]:
    """Worked out, not issued; with `keep` what they cover is on them from now on."""
    covered = await work.invoices.cover(scope, dues, keep=keep, aged_after=terms.aged_after)
    details = await work.invoices.details([due.holder.id for due in dues])
    lines = covered.lines_of(scope.month)
    return [
        terms.draft(
            InvoiceId(uuid7()),
            due.holder,
            scope.month,
            lines.get(due.holder.id, ()),
            details.get(due.holder.id),
        )
        for due in dues
    ]


def _told(invoice: Invoice) -> dict[str, object]:
    return {
        "invoice_id": str(invoice.id),
        "number": invoice.number,
        "holder_id": str(invoice.holder),
        "is_organisation": invoice.is_organisation,
        "month": invoice.month.name,
        "currency": invoice.currency,
        "total_cents": invoice.total_cents,
        "issued_at": invoice.issued_at,
        "due_at": invoice.due_at,
    }
