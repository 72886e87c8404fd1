"""Invoices and credit notes, for those whose they are and for the billing team."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.billing.actions.show_organisation_subscription import ensure_may_read
from services.billing.domain.closing import Month
from services.billing.domain.errors import (
    CreditNoteNotFound,
    InvoiceLineNotFound,
    InvoiceNotFound,
    OrganisationBillingRequired,
    SubscriptionNotFound,
)
from services.billing.domain.invoice import CreditNote, CreditNoteId, Invoice, InvoiceId, LineId
from services.billing.domain.invoice_ports import CoveredRecord, InvoiceHead, Standing
from services.billing.domain.invoice_renderer import Document, InvoiceRenderer
from services.billing.domain.ports import NewUnitOfWork, Organisations
from services.billing.domain.subscription import Holder
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ShowInvoice:
    """One invoice with what became of it. `by` None: the billing team, which sees all of them.

    Raises InvoiceNotFound, also for somebody else's and for an organisation's whose billing one has
    no say in; DependencyUnavailable while auth can't be asked about that.
    """

    unit_of_work: NewUnitOfWork
    organisations: Organisations

    async def __call__(
        self, invoice_id: InvoiceId, *, by: UserId | None
    ) -> tuple[Invoice, Standing]:
        async with self.unit_of_work() as work:
            invoice = await work.invoices.get(invoice_id)
            if invoice is None:
                raise InvoiceNotFound
            standing = await work.invoices.standing(invoice_id)
        holder = Holder(invoice.holder, invoice.is_organisation)
        if by is not None and not await is_theirs(
            self.unit_of_work, self.organisations, holder, by
        ):
            raise InvoiceNotFound
        return invoice, standing

    async def records(
        self,
        invoice_id: InvoiceId,
        line_id: LineId,
        *,
        by: UserId | None,
        after: UUID | None,
        most: int,
    ) -> Sequence[CoveredRecord]:
        """What a line stands for, by id. Raises InvoiceLineNotFound too."""
        invoice, _ = await self(invoice_id, by=by)
        if line_id not in {line.id for line in invoice.lines}:
            raise InvoiceLineNotFound(line_id)
        async with self.unit_of_work() as work:
            return await work.invoices.records(line_id, after=after, most=most)


@dataclass(frozen=True, slots=True)
class ListInvoices:
    """Somebody's invoices, the newest month first, or the operator's."""

    unit_of_work: NewUnitOfWork
    organisations: Organisations

    async def __call__(
        self,
        holder: Holder,
        *,
        by: UserId,
        after: tuple[Month, InvoiceId] | None,
        most: int,
    ) -> Sequence[InvoiceHead]:
        """Raises what `ensure_may_read` raises."""
        await ensure_may_read(self.unit_of_work, self.organisations, holder, by)
        async with self.unit_of_work() as work:
            return await work.invoices.heads(holder=holder.id, after=after, most=most)

    async def all(
        self,
        *,
        holder: UserId | None,
        month: Month | None,
        after: tuple[Month, InvoiceId] | None,
        most: int,
    ) -> Sequence[InvoiceHead]:
        """For the billing team."""
        async with self.unit_of_work() as work:
            return await work.invoices.heads(holder=holder, month=month, after=after, most=most)


@dataclass(frozen=True, slots=True)
class ShowCreditNotes:
    """Credit notes. Raises CreditNoteNotFound like ShowInvoice raises InvoiceNotFound."""

    unit_of_work: NewUnitOfWork
    organisations: Organisations

    async def __call__(self, note_id: CreditNoteId, *, by: UserId | None) -> CreditNote:
        async with self.unit_of_work() as work:
            note = await work.credit_notes.get(note_id)
        if note is None:
            raise CreditNoteNotFound
        holder = Holder(note.holder, note.is_organisation)
        if by is not None and not await is_theirs(
            self.unit_of_work, self.organisations, holder, by
        ):
            raise CreditNoteNotFound
        return note

    async def of(
        self, holder: Holder, *, by: UserId, after: CreditNoteId | None, most: int
    ) -> Sequence[CreditNote]:
        """A holder's, the newest first. Raises what `ensure_may_read` raises."""
        await ensure_may_read(self.unit_of_work, self.organisations, holder, by)
        async with self.unit_of_work() as work:
            return await work.credit_notes.of(holder.id, invoice_id=None, after=after, most=most)

    async def all(
        self,
        *,
        holder: UserId | None,
        invoice_id: InvoiceId | None,
        after: CreditNoteId | None,
        most: int,
    ) -> Sequence[CreditNote]:
        """For the billing team."""
        async with self.unit_of_work() as work:
            return await work.credit_notes.of(holder, invoice_id=invoice_id, after=after, most=most)


@dataclass(frozen=True, slots=True)
class PrintInvoice:
    """An invoice or a credit note as people read it."""

    renderer: InvoiceRenderer

    def html(self, document: Document) -> str:
        return self.renderer.html(document)

    async def pdf(self, document: Document) -> bytes:
        return await self.renderer.pdf(document)


async def is_theirs(
    new_work: NewUnitOfWork, organisations: Organisations, holder: Holder, user_id: UserId
) -> bool:
    """Whether somebody sees the books of this holder."""
    try:
        await ensure_may_read(new_work, organisations, holder, user_id)
    except (SubscriptionNotFound, OrganisationBillingRequired):
        return False
    return True
