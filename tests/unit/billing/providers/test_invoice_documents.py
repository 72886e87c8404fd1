"""Invoices as pages and as files."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.billing.domain.invoice import Invoice, LineKind, Status
from services.billing.domain.outside_usage import METERS, OUTSIDE
from services.billing.domain.seller import Seller
from services.billing.domain.tax import TaxLine
from services.billing.providers.invoice_html import html_of
from services.billing.providers.invoice_pdf import PdfFonts, UnusableFont, _in_order, pdf_of
from services.billing.providers.invoice_renderer import DocumentRenderer
from services.billing.providers.invoice_sheet import sheet_of, words_of
from services.billing.settings import Settings
from tests.support.billing_documents import (
    SELLER,
    a_credit_note,
    a_fee,
    an_invoice,
    some_details,
    some_usage,
)

FONTS = PdfFonts()


def page(document: Any, *sellers: Seller) -> str:
    return html_of(sheet_of(document, sellers or (SELLER,)))


def file(document: Any, fonts: PdfFonts = FONTS) -> bytes:
    return pdf_of(sheet_of(document, (SELLER,)), fonts)


def streams(pdf: bytes) -> Iterator[bytes]:
    """What the pages are drawn with, and the fonts."""
    for found in re.finditer(rb"stream\n(.*?)\nendstream", pdf, re.DOTALL):
        try:
            yield zlib.decompress(found[1])
        except zlib.error:
            yield found[1]


def pages_in(pdf: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b", pdf))


def test_an_invoice_says_everything_that_it_has_to() -> None:
    said = page(an_invoice())
    for text in (
        *("Companion Example Ltd.", "VAT ID: IE1234567FA", "IBAN IE00 XXXX 0000 0000 0000 00"),
        *("INV-2026-000042", "1 December 2026", "15 December 2026", "November 2026"),
        *("Example Widgets GmbH", "Beispielstraße 12", "10999 Berlin", "Germany", "DE123456789"),
        *("PO-2026-0042", "Pro plan", "3 seats", "45.00", "chat with gpt-6-luna (openai)"),
        *("0.210305", "8.412205", "2.5 % fee", "45.210305", "VAT 23 % of 45.21", "USD 55.61"),
        *("\u22120.000305", "Carried to the next invoice", "not part of this document"),
    ):
        assert text in said, text


def test_the_page_runs_nothing_loads_nothing_and_can_be_read_aloud() -> None:
    said = page(an_invoice())
    assert '<html lang="en">' in said
    assert "<title>Invoice INV-2026-000042</title>" in said
    for forbidden in ("<script", "<link", "<img", "url(", "@import", " style=", " onload", "src="):
        assert forbidden not in said
    assert said.count('scope="col"') == 4
    assert "<caption>" in said
    assert said.count("<h1>") == 1


def test_a_credit_note_names_its_invoice_and_its_reason() -> None:
    said = page(a_credit_note(an_invoice()))
    for text in ("Credit note CN-2026-000003", "INV-2026-000042", "Charged twice", "USD 55.61"):
        assert text in said
    assert "Bank details" not in said


def test_a_draft_says_so_and_asks_for_nothing() -> None:
    draft = an_invoice(
        status=Status.DRAFT, number=None, issued_at=None, due_at=None, billed_to=None
    )
    said = page(draft)
    assert "This is a draft" in said
    assert "Please pay" not in said
    assert "IBAN" not in said
    assert pages_in(file(draft)) == 1


def test_a_cost_that_is_not_known_is_not_zero() -> None:
    assert "not known yet" in page(an_invoice(some_usage(vendor_cost_microusd=None)))


def test_notes_about_tax_are_printed() -> None:
    taxes = (TaxLine.at_rate("VAT", 0, 4_521, "Reverse charge: somebody else owes it."),)
    assert "Reverse charge: somebody else owes it." in page(an_invoice(tax_lines=taxes))


def test_every_kind_of_line_has_its_words() -> None:
    lines = [
        a_fee(1, kind=LineKind.PRORATION, amount_microusd=-1_000_000),
        a_fee(2, kind=LineKind.WRITE_OFF),
        some_usage(3, kind=LineKind.LATE_USAGE, facts={**some_usage().facts, "month": "2026-09"}),
        some_usage(4, kind=LineKind.CORRECTION),
        some_usage(5, kind=LineKind.ROUNDING, facts={}, unit="documents", quantity=2),
    ]
    said = page(an_invoice(*lines))
    for text in (
        *("change within the period: given back", "period written off"),
        *("Late usage in September 2026", "Correction of usage in November 2026"),
        "Rounding carried over from earlier documents",
    ):
        assert text in said


@pytest.mark.parametrize(
    ("count", "unit", "said"),
    [
        (5, "screenshot", "5 screenshots"),
        (1, "screenshot", "1 screenshot"),
        (0, "screenshot", "0 screenshots"),
        (-1, "screenshot", "\u22121 screenshot"),
        (-2, "screenshot", "\u22122 screenshots"),
        (1_234, "screenshot", "1,234 screenshots"),
        (1, "tokens", "1 token"),
        (2, "tokens", "2 tokens"),
        (1, "characters", "1 character"),
        (2, "characters", "2 characters"),
        (1, "seats", "1 seat"),
        (3, "seats", "3 seats"),
    ],
)
def test_units_are_said_of_one_and_of_many(count: int, unit: str, said: str) -> None:
    line = some_usage(facts={**some_usage().facts, "unit": unit}, quantity=count, unit=unit)
    [row] = sheet_of(an_invoice(line), (SELLER,)).rows
    assert row.quantity == said
    assert f">{said}<" in page(an_invoice(line))


def test_whatever_a_meter_counts_has_a_word_for_many() -> None:
    for unit in METERS.values():
        line = some_usage(quantity=2, unit=unit)
        [row] = sheet_of(an_invoice(line), (SELLER,)).rows
        assert row.quantity == f"2 {unit}s"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("screenshot", "Usage: screenshot"),
        ("screenshot-full-page", "Usage: screenshot (screenshot-full-page)"),
    ],
)
def test_usage_of_another_service_is_called_by_its_meter(model: str, said: str) -> None:
    told = {"provider": OUTSIDE, "operation": "screenshot", "model": model}
    line = some_usage(facts={**some_usage().facts, **told})
    [row] = sheet_of(an_invoice(line), (SELLER,)).rows
    assert row.title == said


def test_what_credit_notes_gave_back_before_is_said() -> None:
    for given, said in (
        (40, "credit notes had given back 0.00004 of it"),
        (-40, "less what credit notes stood for, 0.00004 of it"),
    ):
        facts = {**some_usage().facts, "given_back_microusd": given}
        line = some_usage(kind=LineKind.CORRECTION, facts=facts)
        assert words_of(line)[1].endswith(said)
        assert said in page(an_invoice(line))


def test_what_is_charged_by_the_second_is_shown_to_the_second() -> None:
    """Two changes within a minute differ by what that second costs, and by nothing else."""
    spans = [
        ("2026-11-30T19:49:40+00:00", "30 Nov 2026, 19:49:40 to 30 Dec 2026, 19:49 UTC"),
        ("2026-11-30T19:49:00+00:00", "30 Nov 2026, 19:49 to 30 Dec 2026, 19:49 UTC"),
    ]
    for begins, said in spans:
        facts = {"tier": "pro", "begins": begins, "ends": "2026-12-30T19:49:00+00:00"}
        line = a_fee(1, kind=LineKind.PRORATION, facts=facts)
        assert words_of(line)[1] == said


def test_documents_show_who_the_seller_was() -> None:
    moved = replace(SELLER, name="Later Example Ltd.", since=date(2027, 1, 1))
    assert "Companion Example Ltd." in page(an_invoice(), moved, SELLER)
    assert "Later Example Ltd." not in page(an_invoice(), moved, SELLER)


EVIL = (
    "</span><script>alert(1)</script>",
    '" onmouseover="x',
    "{{ 7*7 }}{% raw %}",
    "(x) Tj ET Q endstream endobj 1 0 obj <</JS (x)>>",
    "\\) Tj \\( **bold** __under__ {nb}",
    "</style><style>*{display:none}",
)


def _hostile(text: str) -> Invoice:
    of = some_usage(facts={**some_usage().facts, "model": text, "provider": text})
    details = some_details(name=text, address_lines=[text], city=text, purchase_order=text)
    return an_invoice(of, billed_to=details)


@pytest.mark.parametrize("text", EVIL)
def test_what_people_write_is_no_markup(text: str) -> None:
    said, harmless = page(_hostile(text)), page(_hostile("x"))
    assert len(re.findall("[<>]", said)) == len(re.findall("[<>]", harmless))
    assert said.count('"') == harmless.count('"')
    assert "49" not in said.replace("x49", "")


def test_nor_is_it_what_a_pdf_is_drawn_with() -> None:
    hostile, harmless = (file(_hostile(text)) for text in ("".join(EVIL)[:95], "x"))
    assert b"/JS" not in hostile
    assert b"{nb}" not in hostile
    for word in (rb"\bendobj", rb"\bendstream", rb"/Type /Page\b"):
        assert len(re.findall(word, hostile)) == len(re.findall(word, harmless))
    # Texts are drawn as numbers of glyphs: their own letters are nowhere in the file.
    assert not any(b"onmouse" in stream or b"7*7" in stream for stream in streams(hostile))


def test_characters_that_turn_or_hide_text_become_visible() -> None:
    model = "gpt\u202egnp.exe\x00\x1b"
    said = page(an_invoice(some_usage(facts={**some_usage().facts, "model": model})))
    assert "gpt\ufffdgnp.exe\ufffd\ufffd" in said


def test_a_glyph_that_the_font_lacks_is_shown_as_a_box(caplog: pytest.LogCaptureFixture) -> None:
    assert FONTS.printable("Ä שלום 日本 \U0001f600") == "Ä ☐☐☐☐ ☐☐ ☐"
    assert FONTS.printable("می\u200cخواهم")[2] != "\u200c"
    details = some_details(name="日本株式会社 שלום \U0001f600\ufe0f", city="القاهرة")
    assert pages_in(file(an_invoice(billed_to=details))) == 1
    # fpdf2 would log what people wrote.
    assert not [record for record in caplog.records if record.name.startswith("fpdf")]
    assert "日本" not in caplog.text


def test_hebrew_runs_from_right_to_left() -> None:
    assert _in_order("Ada & Grace 12") == "Ada & Grace 12"
    assert _in_order("שלום 12") == "12 םולש"


def test_the_operator_can_add_fonts() -> None:
    more = PdfFonts([FONTS._own["B"]])
    assert more.printable("Ä") == "Ä"
    assert pages_in(file(an_invoice(), more)) == 1


def test_a_file_that_is_no_font_stops_the_start_with_one_sentence(tmp_path: Path) -> None:
    for name, content in (("none.ttf", None), ("text.ttf", b"no font"), ("empty.otf", b"")):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UnusableFont, match=r"^BILLING_FONT_FILES: .+ is no font file"):
            PdfFonts([path])


def test_the_same_document_is_the_same_file() -> None:
    one, two = an_invoice(), an_invoice()
    first = file(one)
    assert first == file(two, PdfFonts())
    assert page(one) == page(two)
    assert first != file(an_invoice(number="INV-2026-000043"))
    assert b"20261201030000" in first  # the moment of issue, not of printing


def test_it_has_a_title_and_a_language() -> None:
    pdf = file(an_invoice())
    assert b"/Lang (en)" in pdf
    assert b"/DisplayDocTitle true" in pdf
    assert b"/Title" in pdf


def test_hundreds_of_lines_go_on_with_the_heads_repeated() -> None:
    lines = [some_usage(position) for position in range(1, 501)]
    invoice = an_invoice(*lines)
    pdf = file(invoice)
    pages = pages_in(pdf)
    assert 20 < pages < 60
    heads = sum(stream.count(b"0.93") > 0 for stream in streams(pdf))
    assert heads >= pages - 1  # the last page may have the sums alone
    assert page(invoice).count("<tr>") == 501


def test_nothing_is_charged_by_an_empty_invoice() -> None:
    nothing = replace(an_invoice(), lines=(), tax_lines=())
    assert "Nothing was charged." in page(nothing)
    assert pages_in(file(nothing)) == 1


@pytest.mark.parametrize("text", ["x" * 300, "a-W " * 75])
def test_texts_of_any_length_stay_on_the_page(text: str) -> None:
    of = some_usage(facts={**some_usage().facts, "model": text})
    details = some_details(name=text[:200], address_lines=[text[:100]] * 4, city=text[:100])
    assert pages_in(file(an_invoice(of, billed_to=details))) <= 2


async def test_the_event_loop_goes_on_meanwhile() -> None:
    renderer = DocumentRenderer((SELLER,), FONTS)
    invoice: Invoice = an_invoice(*(some_usage(position) for position in range(1, 101)))
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    heart = asyncio.create_task(beat())
    pdf = await renderer.pdf(invoice)
    heart.cancel()
    assert pdf == file(invoice)
    assert beats > 3


def test_the_seller_comes_from_one_setting_or_a_list_of_them() -> None:
    one = {"name": "A", "country": "IE", "tax_ids": {"VAT ID": "IE1"}}
    [seller] = _sellers(one)
    assert (seller.name, seller.tax_ids, seller.since) == ("A", (("VAT ID", "IE1"),), date.min)
    both = _sellers([one, {"name": "B", "from": "2027-01-01"}])
    assert [one.name for one in both] == ["A", "B"]
    assert _sellers([]) == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"name": ""}, "at least 1 character"),
        ({"name": "A", "country": "XX"}, "a code of two letters of ISO 3166-1"),
        ({"name": "A", "nmae": "B"}, "Extra inputs are not permitted"),
        ([{"name": "A"}, {"name": "B"}], "BILLING_SELLER has two sellers from the same day on"),
    ],
)
def test_a_seller_that_cannot_be_right_stops_the_start(given: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        _sellers(given)


def _sellers(given: Any) -> list[Seller]:
    settings = Settings.model_validate(
        {
            "database_url": "postgresql://nobody@127.0.0.1:1",
            "cache_url": "redis://127.0.0.1:1/0",
            "broker_url": "redis://127.0.0.1:1/1",
            "jwks_url": "http://127.0.0.1:1/",
            "identity_key_file": "none.pem",
            "identity_trust_file": "none.json",
            "sellers": given,
        }
    )
    return [one.seller for one in settings.sellers]
