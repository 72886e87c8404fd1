"""Take back some of an invoice, or all of it."""

from __future__ import annotations

from services.billing.domain.crediting import CreditRequest, credit_note_of, credited_lines
from services.billing.domain.errors import CreditKeyReused, InvoiceNotFound
from services.billing.domain.invoice import CreditNote, CreditNoteId, InvoiceId
from services.billing.domain.invoicing import Terms, numbered
from services.billing.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import uuid7
from shared.values import dataclass

ISSUED = "credit_note.issued"


@dataclass(frozen=True, slots=True)
class IssueCreditNote:
    """Credit lines of an invoice, final at once. The invoice and its holder's books are held
    meanwhile, so that neither two of us nor a run of invoices give back more than there is; the
    same request again is answered with the same note."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    terms: Terms

    async def __call__(self, invoice_id: InvoiceId, request: CreditRequest) -> CreditNote:
        """Raises InvoiceNotFound, CreditKeyReused and what `credited_lines` raises."""
        note, _is_known = await self.once(invoice_id, request)
        return note

    async def once(self, invoice_id: InvoiceId, request: CreditRequest) -> tuple[CreditNote, bool]:
        """With whether it had been issued before, under the same key."""
        async with self.unit_of_work() as work:
            invoice = await work.invoices.hold(invoice_id)
            if invoice is None:
                raise InvoiceNotFound
            known = await work.credit_notes.by_key(invoice_id, request.key)
            if known is not None:
                note, digest = known
                if digest != request.digest:
                    raise CreditKeyReused
                return note, True
            before = await work.credit_notes.credited(invoice)
            lines = credited_lines(invoice, before, request)
            now = self.clock.now()
            series = self.terms.credit_series
            number = await work.invoices.first_number(series, now.year, count=1)
            note = credit_note_of(
                CreditNoteId(uuid7()),
                numbered(series, now.year, number),
                invoice,
                before,
                lines,
                request,
                now,
            )
            await work.credit_notes.add(note, key=request.key, digest=request.digest)
            await work.webhooks.tell(
                note.holder, ISSUED, _told(note), effect_key=f"credit_note/{note.id}"
            )
        return note, False


def _told(note: CreditNote) -> dict[str, object]:
    return {
        "credit_note_id": str(note.id),
        "number": note.number,
        "invoice_id": str(note.invoice_id),
        "invoice_number": note.invoice_number,
        "holder_id": str(note.holder),
        "is_organisation": note.is_organisation,
        "currency": note.currency,
        "total_cents": note.total_cents,
        "issued_at": note.issued_at,
    }
