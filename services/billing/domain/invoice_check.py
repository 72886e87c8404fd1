"""An invoice and its credit notes, held against what the books say."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.domain.crediting import credited_tax
from services.billing.domain.giving_back import GIVEN_BACK
from services.billing.domain.invoice import (
    CreditNote,
    Invoice,
    InvoiceLine,
    LineId,
    LineKind,
)
from services.billing.domain.invoice_ports import Found, Proof, Sums
from services.billing.domain.tax import MICRODOLLARS_A_CENT, TaxLine, divided_half_up
from shared.values import dataclass

_WHOLE = 10_000  # basis points
_USAGE = (LineKind.USAGE, LineKind.LATE_USAGE, LineKind.CORRECTION)


@dataclass(frozen=True, slots=True)
class LineCheck:
    """A line beside what its sources come to; `differences` names what is not the same."""

    line: InvoiceLine
    found: Found
    differences: Sequence[str]


@dataclass(frozen=True, slots=True)
class NoteCheck:
    """A credit note beside its lines and its invoice."""

    note: CreditNote
    differences: Sequence[str]


@dataclass(frozen=True, slots=True)
class InvoiceCheck:
    """An invoice with its lines and credit notes, compared. `missing`: records that stand on no
    line that is there."""

    invoice: Invoice
    lines: Sequence[LineCheck]
    notes: Sequence[NoteCheck]
    missing: int
    differences: Sequence[str]

    @property
    def is_sound(self) -> bool:
        found = [*self.differences]
        for line in self.lines:
            found += line.differences
        for note in self.notes:
            found += note.differences
        return not found


def checked(invoice: Invoice, notes: Sequence[CreditNote], proof: Proof) -> InvoiceCheck:
    """Everything that can be compared."""
    differences = _of_sums(invoice, proof.sums)
    if not all(_is_taxed_rightly(tax) for tax in invoice.tax_lines):
        differences.append("tax")
    if [line.position for line in invoice.lines] != list(range(1, len(invoice.lines) + 1)):
        differences.append("positions")
    if proof.missing:
        differences.append("missing_records")
    if proof.lost_credits or set(proof.notes) != {note.id for note in notes}:
        differences.append("credit_notes")
    if notes and not _adds_up(invoice, notes):
        differences.append("credited")
    return InvoiceCheck(
        invoice,
        [
            LineCheck(line, proof.lines[line.id], _of_line(line, proof.lines[line.id]))
            for line in invoice.lines
        ],
        [NoteCheck(note, _of_note(note, invoice, proof)) for note in notes],
        proof.missing,
        differences,
    )


def _of_sums(document: Invoice | CreditNote, kept: Sums) -> list[str]:
    """What the document's row says beside what its lines come to."""
    by_lines = {
        "subtotal": (kept.subtotal_microusd, document.subtotal_microusd),
        "net": (kept.net_cents, document.net_cents),
        "total": (kept.total_cents, document.total_cents),
        "carried": (kept.carried_microusd, document.rounding_carried_microusd),
    }
    differences = [name for name, (one, other) in by_lines.items() if one != other]
    taxed = document.tax_lines
    # Of a credit note what falls to each of several rates is rounded by itself.
    is_split = isinstance(document, CreditNote) and len(taxed) > 1
    if taxed and not is_split and sum(tax.net_cents for tax in taxed) != document.net_cents:
        differences.append("taxed_net")
    return differences


def _is_taxed_rightly(tax: TaxLine) -> bool:
    return tax == TaxLine.at_rate(tax.name, tax.rate_basis_points, tax.net_cents, tax.note)


def _of_line(line: InvoiceLine, found: Found) -> Sequence[str]:
    differences = []
    if line.source.count != found.source.count:
        differences.append("count")
    if line.source.digest != found.source.digest:
        differences.append("ids")
    if found.strangers:
        differences.append("holder")
    if found.family is not None and not found.family.is_sound:
        differences.append("given_back")
    if found.corrects and line.family_id not in found.corrects:
        differences.append("family")
    if found.archived and line.kind is not LineKind.CORRECTION:
        return differences
    now = found.line
    if line.kind in _USAGE:
        fee = int((now or line).facts.get("fee_basis_points", 0))
        if (line.vendor_cost_microusd or 0) != found.sum_microusd:
            differences.append("vendor_cost")
        whole = divided_half_up(found.sum_microusd * fee, _WHOLE)
    else:
        whole = found.sum_microusd
    if line.amount_microusd != whole + line.given_back_microusd:
        differences.append("amount")
    if found.archived or line.kind is LineKind.ROUNDING:
        return differences
    facts = {name: fact for name, fact in line.facts.items() if name != GIVEN_BACK}
    if now is None or (now.kind, now.facts) != (line.kind, facts):
        differences.append("facts")
    if now is None or (now.quantity, now.unit) != (line.quantity, line.unit):
        differences.append("quantity")
    return differences


def _of_note(note: CreditNote, invoice: Invoice, proof: Proof) -> Sequence[str]:
    kept = proof.notes.get(note.id)
    differences = ["sums"] if kept is None else _of_sums(note, kept)
    if (note.holder, note.is_organisation) != (invoice.holder, invoice.is_organisation):
        differences.append("holder")
    known = {line.id for line in invoice.lines}
    if not all(credit.line.id in known for credit in note.lines):
        differences.append("lines")
    return differences


def _adds_up(invoice: Invoice, notes: Sequence[CreditNote]) -> bool:
    """No line is credited by more than it has, and the notes' cents and taxes are, all together,
    what is credited comes to."""
    credited: dict[LineId, int] = {}
    for note in notes:
        for credit in note.lines:
            line = credit.line
            credited[line.id] = credited.get(line.id, 0) + credit.amount_microusd
    amounts = {line.id: line.amount_microusd for line in invoice.lines}
    for line_id, amount in credited.items():
        whole = amounts.get(line_id, 0)
        if abs(amount) > abs(whole) or amount * whole < 0:
            return False
    net = divided_half_up(sum(credited.values()), MICRODOLLARS_A_CENT)
    given = [tax for note in notes for tax in note.tax_lines]
    due = credited_tax(invoice, 0, net)
    return net == sum(note.net_cents for note in notes) and _summed(given) == _summed(due)


def _summed(taxes: Sequence[TaxLine]) -> tuple[int, int]:
    return sum(tax.net_cents for tax in taxes), sum(tax.tax_cents for tax in taxes)
