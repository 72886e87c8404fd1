"""What stands on an invoice or a credit note, in words, before it becomes HTML or PDF."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from services.billing.domain.amounts import cents_read, count_read, dollars_read, percent_read
from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.closing import Month
from services.billing.domain.countries import COUNTRIES
from services.billing.domain.invoice import (
    CreditLine,
    CreditNote,
    Invoice,
    InvoiceLine,
    LineKind,
    Status,
)
from services.billing.domain.invoice_renderer import Document
from services.billing.domain.outside_usage import OUTSIDE
from services.billing.domain.seller import Seller, seller_on
from services.billing.domain.tax import TaxLine
from shared.values import dataclass

REPLACEMENT = "\ufffd"
_JOINERS = frozenset("\u200c\u200d")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# One and many: meters name their units by one, our own lines theirs by many.
_WORDS = (
    ("seat", "seats"),
    ("token", "tokens"),
    ("token in", "tokens in"),
    ("token out", "tokens out"),
    ("character", "characters"),
    ("request", "requests"),
    ("screenshot", "screenshots"),
)
_FORMS = {form: words for words in _WORDS for form in words}
_VENDOR_COST = (
    "Vendor cost is what you paid the vendor, on your own key, as far as its price is known. It is "
    "shown for information and is not part of this document's amounts."
)
_PAID_COUNTS = "What was paid already counts towards it."
_DRAFT = "This is a draft. It has no number and nothing is to be paid on it."


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    title: str
    detail: str
    quantity: str
    vendor_cost: str
    amount: str


@dataclass(frozen=True, slots=True)
class Sum:
    """One line below the table."""

    label: str
    amount: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """A document, ready to be laid out."""

    kind: str
    title: str
    made_at: datetime
    seller_name: str
    seller_lines: tuple[str, ...]
    seller_contact: tuple[str, ...]
    recipient: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    has_vendor_cost: bool
    rows: tuple[Row, ...]
    sums: tuple[Sum, ...]
    total: Sum
    notes: tuple[str, ...]
    bank_lines: tuple[str, ...]


def sheet_of(document: Document, sellers: Sequence[Seller]) -> Sheet:
    """Put a document into words."""
    if isinstance(document, CreditNote):
        return _credit_note(document, sellers)
    return _invoice(document, sellers)


def _invoice(invoice: Invoice, sellers: Sequence[Seller]) -> Sheet:
    is_draft = invoice.status is Status.DRAFT
    made_at = invoice.issued_at or invoice.month.period.ends
    seller = seller_on(made_at.astimezone(UTC).date(), sellers)
    kind = "Draft invoice" if is_draft else "Invoice"
    facts = [
        ("Invoice number", clean(invoice.number or "")),
        ("Date of issue", _day(invoice.issued_at) if invoice.issued_at else ""),
        ("Billing period", _span(invoice.month)),
        ("Due date", _day(invoice.due_at) if invoice.due_at else ""),
        *_references(invoice.billed_to),
    ]
    is_owed = invoice.total_cents > 0
    pay = f"Please pay by {_day(invoice.due_at)}. {_PAID_COUNTS}" if invoice.due_at else ""
    return Sheet(
        kind=kind,
        title=f"{kind} {clean(invoice.number or invoice.month.name)}",
        made_at=made_at,
        seller_name=clean(seller.name),
        seller_lines=_seller_lines(seller),
        seller_contact=tuple(map(clean, seller.contact_lines)),
        recipient=_recipient(invoice.billed_to),
        facts=tuple((label, value) for label, value in facts if value),
        has_vendor_cost=_has_vendor_cost(invoice.lines),
        rows=tuple(_row(line) for line in invoice.lines),
        sums=_sums(
            invoice.subtotal_microusd,
            invoice.rounding_carried_microusd,
            invoice.net_cents,
            invoice.tax_lines,
        ),
        total=Sum("Total", f"{invoice.currency} {cents_read(invoice.total_cents)}"),
        notes=_notes(
            _DRAFT if is_draft else "",
            pay if is_owed and not is_draft else "",
            *(tax.note or "" for tax in invoice.tax_lines),
            _VENDOR_COST if _has_vendor_cost(invoice.lines) else "",
        ),
        bank_lines=() if is_draft else tuple(map(clean, seller.bank_lines)),
    )


def _credit_note(note: CreditNote, sellers: Sequence[Seller]) -> Sheet:
    seller = seller_on(note.issued_at.astimezone(UTC).date(), sellers)
    facts = (
        ("Credit note number", clean(note.number)),
        ("Date of issue", _day(note.issued_at)),
        ("Credited invoice", clean(note.invoice_number)),
        ("Billing period", _span(note.month)),
        *_references(note.billed_to),
    )
    return Sheet(
        kind="Credit note",
        title=f"Credit note {clean(note.number)}",
        made_at=note.issued_at,
        seller_name=clean(seller.name),
        seller_lines=_seller_lines(seller),
        seller_contact=tuple(map(clean, seller.contact_lines)),
        recipient=_recipient(note.billed_to),
        facts=facts,
        has_vendor_cost=False,
        rows=tuple(_credited_row(line) for line in note.lines),
        sums=_sums(
            note.subtotal_microusd, note.rounding_carried_microusd, note.net_cents, note.tax_lines
        ),
        total=Sum("Total credited", f"{note.currency} {cents_read(note.total_cents)}"),
        notes=_notes(
            f"Reason: {clean(note.reason)}" if note.reason.strip() else "",
            *(tax.note or "" for tax in note.tax_lines),
        ),
        bank_lines=(),
    )


def clean(text: str) -> str:
    """Characters that nobody would see, or that turn the text around them, become visible."""
    return "".join(_shown(character) for character in unicodedata.normalize("NFC", text))


def _shown(character: str) -> str:
    if character in "\n\r\t":
        return " "
    if character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    return REPLACEMENT


def _seller_lines(seller: Seller) -> tuple[str, ...]:
    country = (COUNTRIES[seller.country],) if seller.country else ()
    ids = (f"{label}: {value}" for label, value in seller.tax_ids)
    return tuple(map(clean, (*seller.address_lines, *country, *ids)))


def _recipient(details: BillingDetails | None) -> tuple[str, ...]:
    if details is None:
        return ("No billing details were given.",)
    place = f"{details.postal_code} {details.city}".strip()
    lines = (details.name, *details.address_lines, place, COUNTRIES[details.country])
    return tuple(map(clean, (*lines, *((details.email,) if details.email else ()))))


def _references(details: BillingDetails | None) -> Iterable[tuple[str, str]]:
    if details is not None and details.vat_id:
        yield "Your VAT ID", clean(details.vat_id)
    if details is not None and details.purchase_order:
        yield "Your reference", clean(details.purchase_order)


def _sums(
    subtotal_microusd: int, carried_microusd: int, net: int, taxes: Sequence[TaxLine]
) -> tuple[Sum, ...]:
    sums = [Sum("Subtotal", dollars_read(subtotal_microusd))]
    if carried_microusd:
        sums.append(Sum("Carried to the next invoice", dollars_read(-carried_microusd)))
        sums.append(Sum("Net", cents_read(net)))
    for tax in taxes:
        rate = percent_read(tax.rate_basis_points)
        label = f"{clean(tax.name)} {rate} of {cents_read(tax.net_cents)}"
        sums.append(Sum(label, cents_read(tax.tax_cents)))
    return tuple(sums)


def _notes(*texts: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(clean(text) for text in texts if text))


def _has_vendor_cost(lines: Sequence[InvoiceLine]) -> bool:
    return any(_is_usage(line.kind) for line in lines)


def _is_usage(kind: LineKind) -> bool:
    return kind in (LineKind.USAGE, LineKind.LATE_USAGE, LineKind.CORRECTION)


def _row(line: InvoiceLine) -> Row:
    title, detail = words_of(line)
    return Row(
        title,
        detail,
        _quantity(line),
        _vendor_cost(line),
        dollars_read(line.amount_microusd),
    )


def _credited_row(credited: CreditLine) -> Row:
    line = credited.line
    title, detail = words_of(line)
    origin = f"Of line {line.position}: {dollars_read(line.amount_microusd)}"
    return Row(
        title,
        f"{detail}; {origin[0].lower()}{origin[1:]}" if detail else origin,
        _quantity(line),
        "",
        dollars_read(credited.amount_microusd),
    )


def _quantity(line: InvoiceLine) -> str:
    if line.kind is LineKind.ROUNDING:
        return ""
    return _counted(line.quantity, line.unit)


def _counted(count: int, unit: str) -> str:
    one, many = _FORMS.get(unit, (unit, unit))
    return f"{count_read(count)} {clean(one if abs(count) == 1 else many)}".strip()


def _vendor_cost(line: InvoiceLine) -> str:
    if not _is_usage(line.kind):
        return ""
    cost = line.vendor_cost_microusd
    return "not known yet" if cost is None else dollars_read(cost)


def words_of(line: InvoiceLine) -> tuple[str, str]:
    """What a line is for, and what more there is to say about it."""
    title, detail = _words_of_its_kind(line)
    return title, ", ".join(part for part in (detail, _given_back(line)) if part)


def _given_back(line: InvoiceLine) -> str:
    given = line.given_back_microusd
    if not given:
        return ""
    said = "credit notes had given back" if given > 0 else "less what credit notes stood for,"
    return f"{said} {dollars_read(abs(given))} of it"


def _words_of_its_kind(line: InvoiceLine) -> tuple[str, str]:
    facts = line.facts
    if _is_usage(line.kind):
        return _usage_title(line.kind, facts), _usage_detail(facts)
    if line.kind is LineKind.ROUNDING:
        return "Rounding carried over from earlier documents", ""
    plan = f"{clean(str(facts.get('tier', '')))} plan".strip().capitalize()
    titles = {
        LineKind.PRORATION: f"{plan}, change within the period"
        + (": given back" if line.amount_microusd < 0 else ""),
        LineKind.WRITE_OFF: f"{plan}, period written off",
    }
    return titles.get(line.kind, plan), _facts_span(facts)


def _usage_title(kind: LineKind, facts: Mapping[str, Any]) -> str:
    prefixes = {LineKind.LATE_USAGE: "Late usage", LineKind.CORRECTION: "Correction of usage"}
    model, provider, operation = (
        clean(str(facts.get(name, ""))) for name in ("model", "provider", "operation")
    )
    month = facts.get("month")
    when = f" in {_span(Month.named(str(month)))}" if month and kind is not LineKind.USAGE else ""
    what = f"{operation} with {model} ({provider})"
    if provider == OUTSIDE:
        # What a service outside the suite told: its meter, and what of that has its own price.
        what = operation if model == operation else f"{operation} ({model})"
    return f"{prefixes.get(kind, 'Usage')}{when}: {what}"


def _usage_detail(facts: Mapping[str, Any]) -> str:
    words = (
        ("requests", "requests"),
        ("input_tokens", "tokens in"),
        ("output_tokens", "tokens out"),
        ("characters", "characters"),
    )
    parts = [_counted(int(facts[name]), word) for name, word in words if facts.get(name)]
    fee = facts.get("fee_basis_points")
    if fee is not None:
        parts.append(f"{percent_read(int(fee))} fee" if fee else "included")
    if facts.get("priced_later"):
        parts.append("its price became known later")
    return ", ".join(parts)


def _facts_span(facts: Mapping[str, Any]) -> str:
    begins, ends = (_moment(facts.get(name)) for name in ("begins", "ends"))
    return f"{_second(begins)} to {_second(ends)} UTC" if begins and ends else ""


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value if isinstance(value, datetime) else None


def _day(moment: datetime) -> str:
    moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%B %Y}"


def _second(moment: datetime) -> str:
    """Without the seconds where there are none: charges go by them."""
    moment = moment.astimezone(UTC)
    time = f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
    return f"{moment.day} {moment:%b %Y}, {time}"


def _span(month: Month) -> str:
    return f"{month.first_day:%B %Y}"
