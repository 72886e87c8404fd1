"""Credit notes: parts of an invoice come to all of it, to the cent and with its tax."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.closing import Month
from services.billing.domain.crediting import (
    CreditedSoFar,
    CreditRequest,
    WantedCredit,
    credit_note_of,
    credited_lines,
)
from services.billing.domain.errors import CreditExceedsLine, InvoiceLineNotFound, NothingToCredit
from services.billing.domain.invoice import (
    CreditNote,
    CreditNoteId,
    Invoice,
    InvoiceId,
    InvoiceLine,
    LineId,
    LineKind,
    Status,
)
from services.billing.domain.invoice_check import checked
from services.billing.domain.invoice_ports import Found, Proof, Sums
from services.billing.domain.invoicing import NEVER, Scope, month_after, numbered
from services.billing.domain.tax import TaxLine, net_cents
from shared.ids import UserId

NOW = datetime(2026, 12, 1, tzinfo=UTC)
NOVEMBER = Month.named("2026-11")


def a_line(amount: int, position: int = 1) -> InvoiceLine:
    return InvoiceLine(LineId(uuid4()), position, LineKind.FEE, {}, 1, "seats", None, amount)


def an_invoice(*amounts: int, rate: int = 1_900) -> Invoice:
    lines = tuple(a_line(amount, position) for position, amount in enumerate(amounts, 1))
    return Invoice(
        id=InvoiceId(uuid4()),
        number="TT-2026-000001",
        holder=UserId(uuid4()),
        is_organisation=False,
        month=NOVEMBER,
        status=Status.FINAL,
        lines=lines,
        tax_lines=(TaxLine.at_rate("VAT", rate, net_cents(lines)),),
        billed_to=None,
        issued_at=NOW,
        due_at=NOW + timedelta(days=14),
    )


def a_credit(invoice: Invoice, before: dict[LineId, int], *wanted: WantedCredit) -> CreditNote:
    request = CreditRequest(wanted, "Not used.", "key", UserId(uuid4()))
    so_far = CreditedSoFar(dict(before))
    lines = credited_lines(invoice, so_far, request)
    for line in lines:
        before[line.line.id] = before.get(line.line.id, 0) + line.amount_microusd
    return credit_note_of(CreditNoteId(uuid4()), "CN", invoice, so_far, lines, request, NOW)


@given(
    amounts=st.lists(st.integers(-(10**9), 10**15), min_size=1, max_size=4),
    percents=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=5),
    rate=st.sampled_from([0, 700, 1_900]),
)
def test_parts_and_the_rest_come_to_the_whole(
    amounts: list[int], percents: list[tuple[int, int]], rate: int
) -> None:
    invoice, before = an_invoice(*amounts, rate=rate), dict[LineId, int]()
    notes = []
    for index, percent in percents:
        line = invoice.lines[index % len(invoice.lines)]
        left = line.amount_microusd - before.get(line.id, 0)
        part = abs(left) * percent // 100 * (1 if left >= 0 else -1)
        if part:
            notes.append(a_credit(invoice, before, WantedCredit(line.id, part)))
    try:
        notes.append(a_credit(invoice, before))
    except NothingToCredit:
        assert sum(map(abs, amounts)) == sum(map(abs, before.values()))
    assert sum(note.net_cents for note in notes) == invoice.net_cents
    assert sum(note.rounding_carried_microusd for note in notes) == (
        invoice.rounding_carried_microusd
    )
    assert sum(note.tax_cents for note in notes) == invoice.tax_cents


@pytest.mark.parametrize("given_back", [-9_990_000, -10_000_000, -9_970_000])
def test_a_line_is_credited_with_its_own_tax_however_small_the_invoice_is(given_back: int) -> None:
    """A sum of a cent has no tax, one of three a cent of it: nothing to work out a share of."""
    invoice = an_invoice(10_000_000, given_back)
    note = a_credit(invoice, {}, WantedCredit(invoice.lines[0].id))
    assert (note.net_cents, note.tax_cents) == (1_000, 190)


def test_a_note_names_the_invoice_that_it_takes_back() -> None:
    invoice = an_invoice(10_000_000)
    note = a_credit(invoice, {})
    assert (note.invoice_id, note.invoice_number) == (invoice.id, "TT-2026-000001")
    assert (note.holder, note.month, note.issued_at) == (invoice.holder, NOVEMBER, NOW)


def test_the_tax_of_several_rates_is_credited_by_their_shares() -> None:
    lines = TaxLine.at_rate("Full", 1_900, 75), TaxLine.at_rate("Reduced", 700, 25)
    invoice, before = replace(an_invoice(1_000_000), tax_lines=lines), dict[LineId, int]()
    [line] = invoice.lines
    half, rest = (
        a_credit(invoice, before, WantedCredit(line.id, amount)) for amount in (500_000, None)
    )
    assert [(one.net_cents, one.tax_cents) for one in half.tax_lines] == [(38, 7), (13, 1)]
    assert [
        (one.net_cents + other.net_cents, one.tax_cents + other.tax_cents)
        for one, other in zip(half.tax_lines, rest.tax_lines, strict=True)
    ] == [(75, 14), (25, 2)]


@pytest.mark.parametrize(("amount", "full", "reduced"), [(-1_000_000, -75, -25), (10_000, 1, 0)])
def test_a_credit_of_all_takes_back_each_rate_as_it_was_invoiced(
    amount: int, full: int, reduced: int
) -> None:
    """Also of an invoice that gives back, and of one of a single cent."""
    taxes = TaxLine.at_rate("Full", 1_900, full), TaxLine.at_rate("Reduced", 700, reduced)
    invoice = replace(an_invoice(amount), tax_lines=taxes)
    note = a_credit(invoice, {})
    assert (note.net_cents, tuple(note.tax_lines)) == (invoice.net_cents, taxes)


def test_the_lines_of_a_note_are_in_the_invoices_order_and_numbered_from_one() -> None:
    invoice = an_invoice(100, 200, 300)
    first, _, third = (line.id for line in invoice.lines)
    note = a_credit(invoice, {}, WantedCredit(third, 30), WantedCredit(first, 10))
    assert [(one.position, one.line.id, one.amount_microusd) for one in note.lines] == [
        (1, first, 10),
        (2, third, 30),
    ]


def sums_of(document: Invoice | CreditNote) -> Sums:
    return Sums(
        document.subtotal_microusd,
        document.net_cents,
        document.total_cents,
        document.rounding_carried_microusd,
    )


@given(
    amounts=st.lists(st.integers(-(10**6), 10**8), min_size=1, max_size=4),
    percents=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=5),
    cut=st.integers(0, 100),
)
def test_honest_notes_are_sound_also_where_each_rate_is_rounded_by_itself(
    amounts: list[int], percents: list[tuple[int, int]], cut: int
) -> None:
    invoice, before = an_invoice(*amounts), dict[LineId, int]()
    first = invoice.net_cents * cut // 100
    rates = ((1_900, first), (700, invoice.net_cents - first))
    taxes = tuple(TaxLine.at_rate("VAT", rate, net) for rate, net in rates)
    invoice = replace(invoice, tax_lines=taxes)
    notes = []
    for index, percent in percents:
        line = invoice.lines[index % len(invoice.lines)]
        rest = line.amount_microusd - before.get(line.id, 0)
        if part := int(rest * percent / 100):
            notes.append(a_credit(invoice, before, WantedCredit(line.id, part)))
    proof = Proof(
        sums=sums_of(invoice),
        lines={
            line.id: Found(line.source, line.amount_microusd, 0, line=line)
            for line in invoice.lines
        },
        notes={note.id: sums_of(note) for note in notes},
        missing=0,
        lost_credits=0,
    )
    assert checked(invoice, notes, proof).is_sound


def test_no_line_gives_more_than_it_has_in_one_request_either() -> None:
    invoice = an_invoice(100, -50)
    debit, credit = (line.id for line in invoice.lines)
    for wanted in (
        (WantedCredit(debit, 101),),
        (WantedCredit(debit, 60), WantedCredit(debit, 41)),
        (WantedCredit(debit, -1),),
        (WantedCredit(credit, 1),),
        (WantedCredit(credit, -51),),
    ):
        with pytest.raises(CreditExceedsLine):
            a_credit(invoice, {}, *wanted)
    with pytest.raises(InvoiceLineNotFound):
        a_credit(invoice, {}, WantedCredit(LineId(uuid4())))
    with pytest.raises(NothingToCredit):
        a_credit(invoice, {debit: 100, credit: -50})


def test_a_run_covers_what_came_since_the_one_before() -> None:
    first = Scope.following(None, NOVEMBER, NOW)
    assert (first.previous_ends, first.received_after) == (NEVER, NEVER)
    later = Scope.following(first, month_after(NOVEMBER), NOW - timedelta(days=1))
    assert later.previous_ends == NOVEMBER.period.ends
    # Closed before the month ahead of it: what that one covered is not looked for again.
    assert (later.received_after, later.received_until) == (NOW, NOW)


def test_numbers_go_on_beyond_their_width() -> None:
    assert numbered("TT", 2026, 7) == "TT-2026-000007"
    assert numbered("TT-CN", 2026, 1_234_567) == "TT-CN-2026-1234567"
