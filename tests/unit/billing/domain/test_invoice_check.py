"""An invoice held against the books: an honest one is sound, and each difference has its name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.billing.domain.closing import Month
from services.billing.domain.crediting import (
    CreditedSoFar,
    CreditRequest,
    WantedCredit,
    credit_note_of,
    credited_lines,
)
from services.billing.domain.invoice import (
    CreditNote,
    CreditNoteId,
    Invoice,
    InvoiceId,
    InvoiceLine,
    LineId,
    LineKind,
    Source,
    Status,
)
from services.billing.domain.invoice_check import InvoiceCheck, checked
from services.billing.domain.invoice_ports import Found, Proof, Sums
from services.billing.domain.tax import TaxLine, net_cents
from shared.ids import UserId

NOW = datetime(2026, 12, 1, tzinfo=UTC)
FEE, USAGE, CORRECTION, ROUNDING = 0, 1, 2, 3  # the lines, as they stand


def a_line(position: int, kind: LineKind, amount: int, **facts: Any) -> InvoiceLine:
    is_usage = kind in (LineKind.USAGE, LineKind.CORRECTION)
    return InvoiceLine(
        id=LineId(UUID(int=position)),
        position=position,
        kind=kind,
        facts={"fee_basis_points": 1_000, **facts} if is_usage else facts,
        quantity=position,
        unit="tokens" if is_usage else "seats",
        vendor_cost_microusd=amount * 10 if is_usage else None,
        amount_microusd=amount,
        source=Source(position, f"{position:02}" * 16),
    )


LINES = (
    a_line(1, LineKind.FEE, 9_000_000, tier="pro"),
    a_line(2, LineKind.USAGE, 300_000, tier="pro"),
    a_line(3, LineKind.CORRECTION, -20_000, tier="pro"),
    a_line(4, LineKind.ROUNDING, 4_000),
)
INVOICE = Invoice(
    id=InvoiceId(uuid4()),
    number="TT-2026-000001",
    holder=UserId(uuid4()),
    is_organisation=False,
    month=Month.named("2026-11"),
    status=Status.FINAL,
    lines=LINES,
    tax_lines=(TaxLine.at_rate("VAT", 1_900, net_cents(LINES)),),
    billed_to=None,
    issued_at=NOW,
    due_at=NOW + timedelta(days=14),
)


def a_note(*wanted: WantedCredit, before: dict[LineId, int] | None = None) -> CreditNote:
    request = CreditRequest(wanted, "Not used.", "key", UserId(uuid4()))
    so_far = CreditedSoFar(before or {})
    lines = credited_lines(INVOICE, so_far, request)
    return credit_note_of(CreditNoteId(uuid4()), "CN", INVOICE, so_far, lines, request, NOW)


NOTE = a_note(WantedCredit(LINES[FEE].id, 1_000_000))


def sums_of(document: Invoice | CreditNote) -> Sums:
    return Sums(
        document.subtotal_microusd,
        document.net_cents,
        document.total_cents,
        document.rounding_carried_microusd,
    )


def found(line: InvoiceLine) -> Found:
    """What the books say of an honest line."""
    has_cost = line.kind in (LineKind.USAGE, LineKind.CORRECTION)
    whole = line.vendor_cost_microusd if has_cost else line.amount_microusd
    return Found(line.source, whole or 0, archived=0, line=line)


PROOF = Proof(
    sums=sums_of(INVOICE),
    lines={line.id: found(line) for line in LINES},
    notes={NOTE.id: sums_of(NOTE)},
    missing=0,
    lost_credits=0,
)


def check(
    invoice: Invoice = INVOICE, proof: Proof = PROOF, notes: tuple[CreditNote, ...] = (NOTE,)
) -> InvoiceCheck:
    return checked(invoice, notes, proof)


def seen(check: InvoiceCheck) -> dict[str, list[str]]:
    """The differences of the whole, of its lines by their place, and of its notes."""
    places = {
        "invoice": check.differences,
        **{str(one.line.position): one.differences for one in check.lines},
        "notes": [name for one in check.notes for name in one.differences],
    }
    return {place: list(differences) for place, differences in places.items() if differences}


def test_an_honest_invoice_is_sound() -> None:
    honest = check()
    assert (honest.is_sound, seen(honest)) == (True, {})
    assert (honest.invoice, honest.missing) == (INVOICE, 0)
    assert [one.line for one in honest.lines] == list(LINES)
    assert [one.found for one in honest.lines] == list(PROOF.lines.values())
    assert checked(INVOICE, [], replace(PROOF, notes={})).is_sound


@pytest.mark.parametrize(
    ("proof", "difference"),
    [
        ({"sums": replace(PROOF.sums, subtotal_microusd=1)}, "subtotal"),
        ({"sums": replace(PROOF.sums, net_cents=1)}, "net"),
        ({"sums": replace(PROOF.sums, total_cents=1)}, "total"),
        ({"sums": replace(PROOF.sums, carried_microusd=1)}, "carried"),
        ({"missing": 1}, "missing_records"),
        ({"lost_credits": 1}, "credit_notes"),
        ({"notes": {**PROOF.notes, CreditNoteId(uuid4()): PROOF.sums}}, "credit_notes"),
    ],
)
def test_a_document_that_the_books_know_otherwise_is_named(
    proof: dict[str, Any], difference: str
) -> None:
    off = check(proof=replace(PROOF, **proof))
    assert (off.is_sound, seen(off)) == (False, {"invoice": [difference]})


def test_tax_that_was_worked_out_wrongly_is_named() -> None:
    [tax] = INVOICE.tax_lines
    dearer = replace(INVOICE, tax_lines=(replace(tax, tax_cents=tax.tax_cents + 1), tax))
    assert {"tax", "taxed_net"} <= set(check(dearer).differences)
    less = TaxLine.at_rate("VAT", 1_900, tax.net_cents - 1)
    part = replace(INVOICE, tax_lines=(less,))
    assert "taxed_net" in check(part).differences
    assert "tax" not in check(part).differences
    halves = tuple(TaxLine.at_rate("VAT", 0, net) for net in (tax.net_cents - 7, 7))
    assert "taxed_net" not in check(replace(INVOICE, tax_lines=halves)).differences
    assert "taxed_net" not in check(replace(INVOICE, tax_lines=())).differences


def test_lines_that_are_not_numbered_one_by_one_are_named() -> None:
    moved = replace(INVOICE, lines=(*LINES[:3], replace(LINES[ROUNDING], position=5)))
    assert check(moved).differences == ["positions"]


@pytest.mark.parametrize(
    ("place", "change", "differences"),
    [
        (FEE, {"source": Source(9, LINES[FEE].source.digest)}, ["count"]),
        (FEE, {"source": Source(1, "ff" * 16)}, ["ids"]),
        (FEE, {"strangers": 1}, ["holder"]),
        (FEE, {"sum_microusd": 8_999_999}, ["amount"]),
        (FEE, {"line": None}, ["facts", "quantity"]),
        (FEE, {"line": replace(LINES[FEE], facts={"tier": "free"})}, ["facts"]),
        (FEE, {"line": replace(LINES[FEE], kind=LineKind.PRORATION)}, ["facts"]),
        (FEE, {"line": replace(LINES[FEE], quantity=2)}, ["quantity"]),
        (FEE, {"line": replace(LINES[FEE], unit="tokens")}, ["quantity"]),
        # A micro-dollar of the vendor's cost makes a tenth of one, which is rounded away.
        (USAGE, {"sum_microusd": 3_000_001}, ["vendor_cost"]),
        (USAGE, {"sum_microusd": 3_000_005}, ["vendor_cost", "amount"]),
        (CORRECTION, {"sum_microusd": -200_005}, ["vendor_cost", "amount"]),
        (ROUNDING, {"sum_microusd": 3_999}, ["amount"]),
        (ROUNDING, {"line": None}, []),
        # What is in a file by now is compared by its records alone.
        (USAGE, {"archived": 1, "sum_microusd": 0, "line": None}, []),
        (USAGE, {"archived": 1, "source": Source(9, LINES[USAGE].source.digest)}, ["count"]),
        (CORRECTION, {"archived": 1, "line": None}, []),
        (CORRECTION, {"archived": 1, "line": None, "sum_microusd": 0}, ["vendor_cost", "amount"]),
    ],
)
def test_a_line_that_its_sources_do_not_come_to_is_named(
    place: int, change: dict[str, Any], differences: list[str]
) -> None:
    line = LINES[place]
    proof = replace(PROOF, lines={**PROOF.lines, line.id: replace(found(line), **change)})
    off = check(proof=proof)
    assert seen(off) == ({str(line.position): differences} if differences else {})
    assert off.is_sound == (not differences)


def test_the_fee_that_holds_is_the_one_of_the_books() -> None:
    """Somebody changed the fee in the line together with its amount."""
    line = LINES[USAGE]
    books = replace(line, facts={**line.facts, "fee_basis_points": 2_000})
    proof = replace(PROOF, lines={**PROOF.lines, line.id: replace(found(line), line=books)})
    assert seen(check(proof=proof)) == {"2": ["amount", "facts"]}


def test_a_note_that_is_not_as_it_was_kept_is_named() -> None:
    for change, differences in (
        ({"net_cents": 1}, ["net"]),
        ({"total_cents": 1}, ["total"]),
        ({"subtotal_microusd": 1}, ["subtotal"]),
    ):
        kept = replace(PROOF.notes[NOTE.id], **change)
        off = check(proof=replace(PROOF, notes={NOTE.id: kept}))
        assert (off.is_sound, seen(off)) == (False, {"notes": differences})
    unknown = check(proof=replace(PROOF, notes={}))
    assert seen(unknown) == {"invoice": ["credit_notes"], "notes": ["sums"]}


def test_a_note_of_somebody_else_or_of_other_lines_is_named() -> None:
    theirs = replace(NOTE, holder=UserId(uuid4()))
    assert seen(check(notes=(theirs,))) == {"notes": ["holder"]}
    firms = replace(NOTE, is_organisation=True)
    assert seen(check(notes=(firms,))) == {"notes": ["holder"]}
    [credit] = NOTE.lines
    strange = replace(NOTE, lines=(replace(credit, line=replace(credit.line, id=LineId(uuid4()))),))
    assert seen(check(notes=(strange,)))["notes"] == ["lines"]


def test_notes_that_take_back_more_than_there_was_are_named() -> None:
    line = LINES[FEE]
    rest = a_note(WantedCredit(line.id), before={line.id: 1_000_000})
    both = replace(PROOF, notes={note.id: sums_of(note) for note in (NOTE, rest)})
    assert check(proof=both, notes=(NOTE, rest)).is_sound
    # The whole of the line once more, beside what was taken back of it before.
    whole = a_note(WantedCredit(line.id))
    more = replace(PROOF, notes={note.id: sums_of(note) for note in (NOTE, whole)})
    assert seen(check(proof=more, notes=(NOTE, whole))) == {"invoice": ["credited"]}


@pytest.mark.parametrize("place", [FEE, CORRECTION])
def test_a_note_against_the_sign_of_its_line_is_named(place: int) -> None:
    line = LINES[place]
    small = -10_000 if line.amount_microusd > 0 else 10_000
    [credit] = NOTE.lines
    wrong = replace(
        NOTE,
        lines=(replace(credit, line=line, amount_microusd=small),),
        net_cents=small // 10_000,
        tax_lines=(TaxLine.at_rate("VAT", 1_900, small // 10_000),),
    )
    proof = replace(PROOF, notes={NOTE.id: sums_of(wrong)})
    assert seen(check(proof=proof, notes=(wrong,))) == {"invoice": ["credited"]}


def test_cents_and_taxes_that_notes_do_not_come_to_are_named() -> None:
    [tax] = NOTE.tax_lines
    for wrong in (
        replace(NOTE, net_cents=NOTE.net_cents + 1, tax_lines=()),
        replace(NOTE, tax_lines=(replace(tax, tax_cents=tax.tax_cents + 1),)),
    ):
        proof = replace(PROOF, notes={NOTE.id: sums_of(wrong)})
        assert seen(check(proof=proof, notes=(wrong,))) == {"invoice": ["credited"]}


def test_tax_on_another_sum_than_the_notes_is_named() -> None:
    tax = TaxLine.at_rate("VAT", 1_900, NOTE.net_cents + 1)
    for wrong in (replace(NOTE, tax_lines=(tax,)), replace(NOTE, net_cents=NOTE.net_cents + 1)):
        proof = replace(PROOF, notes={NOTE.id: sums_of(wrong)})
        assert seen(check(proof=proof, notes=(wrong,))) == {
            "invoice": ["credited"],
            "notes": ["taxed_net"],
        }
