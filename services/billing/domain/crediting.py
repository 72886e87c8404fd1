"""Taking back what was invoiced: never more than what is left of a line, nor than what its
corrections have not given back yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from uuid import UUID

from services.billing.domain.errors import (
    CreditExceedsLine,
    InvoiceLineNotFound,
    NothingToCredit,
)
from services.billing.domain.giving_back import Family, FamilyId
from services.billing.domain.invoice import (
    CreditLine,
    CreditNote,
    CreditNoteId,
    Invoice,
    InvoiceLine,
    LineId,
)
from services.billing.domain.tax import MICRODOLLARS_A_CENT, TaxLine, divided_half_up
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class WantedCredit:
    """What to take back of a line, with the line's sign; without an amount all that is left."""

    line_id: LineId
    amount_microusd: int | None = None


@dataclass(frozen=True, slots=True)
class CreditRequest:
    """Lines to credit; without any the whole invoice. `key` makes it one request, however often it
    is sent."""

    lines: Sequence[WantedCredit]
    reason: str
    key: str
    by: UserId

    @property
    def digest(self) -> str:
        """SHA-256 of what is asked for."""
        wanted = [[str(line.line_id), line.amount_microusd] for line in self.lines]
        return hashlib.sha256(json.dumps([wanted, self.reason]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CreditedSoFar:
    """What was credited of an invoice before, by line, and what the lines' families come to by all
    invoices and credit notes."""

    lines: Mapping[LineId, int]
    families: Mapping[FamilyId, Family] = field(default_factory=dict)

    def left_of(self, line: InvoiceLine) -> int:
        return line.amount_microusd - self.lines.get(line.id, 0)

    def left_of_family(self, line: InvoiceLine) -> int:
        """What is charged of the line's family and not given back."""
        known = self.families.get(line.family_id)
        return max(0, known.left) if known else max(0, self.left_of(line))

    @property
    def total(self) -> int:
        return sum(self.lines.values())


def credited_lines(
    invoice: Invoice, before: CreditedSoFar, request: CreditRequest
) -> tuple[CreditLine, ...]:
    """What a request comes to. Raises InvoiceLineNotFound, CreditExceedsLine, NothingToCredit."""
    known = {line.id: line for line in invoice.lines}
    wanted = request.lines or [WantedCredit(line.id) for line in invoice.lines]
    amounts = _within_lines(known, before, wanted)
    _keep_within_families(known, before, wanted, amounts)
    given = [(known[line_id], amount) for line_id, amount in amounts.items() if amount]
    if not given:
        raise NothingToCredit(UUID(str(invoice.id)))
    given.sort(key=lambda pair: pair[0].position)
    return tuple(
        CreditLine(position, line, amount) for position, (line, amount) in enumerate(given, 1)
    )


def _within_lines(
    known: Mapping[LineId, InvoiceLine], before: CreditedSoFar, wanted: Sequence[WantedCredit]
) -> dict[LineId, int]:
    """What each line is credited by, as far as the lines themselves go."""
    amounts: dict[LineId, int] = {}
    for want in wanted:
        line = known.get(want.line_id)
        if line is None:
            raise InvoiceLineNotFound(want.line_id)
        left = before.left_of(line) - amounts.get(line.id, 0)
        amount = left if want.amount_microusd is None else want.amount_microusd
        if abs(amount) > abs(left) or amount * left < 0:
            raise CreditExceedsLine(line.id, left)
        amounts[line.id] = amounts.get(line.id, 0) + amount
    return amounts


def _keep_within_families(
    known: Mapping[LineId, InvoiceLine],
    before: CreditedSoFar,
    wanted: Sequence[WantedCredit],
    amounts: dict[LineId, int],
) -> None:
    """All that is left of a line is no more than what corrections, or what was given back of its
    period, have left of it; an amount that somebody said has to fit."""
    said = {want.line_id for want in wanted if want.amount_microusd is not None}
    families: dict[FamilyId, list[LineId]] = {}
    for line_id in amounts:
        families.setdefault(known[line_id].family_id, []).append(line_id)
    for line_ids in families.values():
        left = before.left_of_family(known[line_ids[0]])
        over = sum(amounts[line_id] for line_id in line_ids) - left
        debits = [line_id for line_id in line_ids if amounts[line_id] > 0]
        for line_id in debits:
            if over > 0 and line_id not in said:
                less = min(over, amounts[line_id])
                amounts[line_id] -= less
                over -= less
        if over > 0 and debits:
            too_much = next(line_id for line_id in debits if line_id in said)
            raise CreditExceedsLine(too_much, max(0, amounts[too_much] - over))


def credit_note_of(
    id_: CreditNoteId,
    number: str,
    invoice: Invoice,
    before: CreditedSoFar,
    lines: Sequence[CreditLine],
    request: CreditRequest,
    at: datetime,
) -> CreditNote:
    """The note. Its cents and its tax are what they come to with all that was credited before, less
    what those came to: when all of an invoice is credited, it is to the cent what was invoiced."""
    so_far = before.total
    then = so_far + sum(line.amount_microusd for line in lines)
    return CreditNote(
        id=id_,
        number=number,
        invoice_id=invoice.id,
        invoice_number=invoice.number or "",
        holder=invoice.holder,
        is_organisation=invoice.is_organisation,
        month=invoice.month,
        lines=lines,
        net_cents=_cents(then) - _cents(so_far),
        tax_lines=credited_tax(invoice, _cents(so_far), _cents(then)),
        billed_to=invoice.billed_to,
        reason=request.reason,
        issued_at=at,
        issued_by=request.by,
    )


def _cents(amount: int) -> int:
    return divided_half_up(amount, MICRODOLLARS_A_CENT)


def credited_tax(invoice: Invoice, before: int, then: int) -> tuple[TaxLine, ...]:
    """What the tax of all that is credited grows by, at the invoice's rates. Not a share of the
    invoice's tax: where debits and credits nearly cancel out, that is a rounded cent or none."""
    return tuple(
        _grown(_on(tax, before, invoice), _on(tax, then, invoice)) for tax in invoice.tax_lines
    )


def _on(tax: TaxLine, credited: int, invoice: Invoice) -> TaxLine:
    """The line as it were on an invoice of so many cents."""
    whole = invoice.net_cents
    if len(invoice.tax_lines) == 1:
        net = credited
    else:
        sign = 1 if whole > 0 else -1
        net = divided_half_up(tax.net_cents * credited * sign, abs(whole)) if whole else 0
    return TaxLine.at_rate(tax.name, tax.rate_basis_points, net, tax.note)


def _grown(before: TaxLine, then: TaxLine) -> TaxLine:
    return replace(
        then,
        net_cents=then.net_cents - before.net_cents,
        tax_cents=then.tax_cents - before.tax_cents,
    )
