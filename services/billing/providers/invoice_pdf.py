"""Invoices as PDF files: the same document is the same bytes."""

from __future__ import annotations

import hashlib
import logging
import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.billing.providers.invoice_sheet import REPLACEMENT, Row, Sheet, Sum
from shared.settings import SettingsRefused

if TYPE_CHECKING:
    from fpdf import FPDF
    from fpdf.fonts import TTFFont

_SETTING = "BILLING_FONT_FILES"
_BASE = "base"
_KINDS = frozenset({b"\x00\x01\x00\x00", b"true", b"OTTO"})
_INK, _MUTED, _ACCENT = (27, 36, 48), (86, 96, 112), (31, 78, 121)
_RULE, _HEAD = (213, 218, 225), (238, 242, 246)
# An A4 page in millimetres.
_LEFT, _TOP, _RIGHT, _FOOT = 18.0, 18.0, 192.0, 275.0
_WIDTH = _RIGHT - _LEFT
_PAD = 2.0
# A word with the dash or the space that ends it: between two of them a line may be broken.
_WORDS = re.compile(r"[^\s\-/_.,]*(?:[\-/_.,]+|\s+|$)\s*")
# Joiners and selectors of variants change how the characters beside them look, and are nothing by
# themselves: without a glyph they are left out.
_SILENT = frozenset("\u200c\u200d" + "".join(map(chr, range(0xFE00, 0xFE10))))


class UnusableFont(SettingsRefused):
    """A font file of the operator's can't be used."""


class PdfFonts:
    """Source Sans Pro, and the operator's own files for what it lacks, in their order."""

    def __init__(self, more: Sequence[Path] = ()) -> None:
        """Raises UnusableFont, in one sentence that names the setting and the file."""
        self._more = tuple(more)
        if more:
            # Tried at once, so that a file that is none stops the start and no invoice.
            _ = self._covered

    def printable(self, text: str) -> str:
        """The text as far as there are glyphs for it; what is missing becomes visible."""
        return "".join(
            character if ord(character) in self._covered else self._stand_in(character)
            for character in text
        )

    def add_to(self, pdf: FPDF) -> None:
        for style, path in self._own.items():
            pdf.add_font(_BASE, style, path)
        names = []
        for number, path in enumerate(self._more):
            names.append(f"more{number}")
            pdf.add_font(names[-1], "", path)
        # Their regular cut stands in for the bold one as well.
        pdf.set_fallback_fonts(names, exact_match=False)

    def _stand_in(self, character: str) -> str:
        return "" if character in _SILENT else self._replacement

    @cached_property
    def _own(self) -> dict[str, Path]:
        files = Path(str(resources.files("font_source_sans_pro"))) / "files"
        return {"": files / "SourceSansPro-Regular.ttf", "B": files / "SourceSansPro-Semibold.ttf"}

    @cached_property
    def _covered(self) -> frozenset[int]:
        both = _glyphs_in(self._own[""]) & _glyphs_in(self._own["B"])
        return both.union(*(_glyphs_in(path) for path in self._more))

    @cached_property
    def _replacement(self) -> str:
        return next(c for c in (REPLACEMENT, "\u2610", "?") if ord(c) in self._covered)


def _glyphs_in(path: Path) -> frozenset[int]:
    from fpdf import FPDF

    # It tells each table of each font that it makes smaller.
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    pdf = FPDF()
    try:
        _check_kind(path)
        pdf.add_font("tried", "", path)
        return frozenset(code for font in _files_of(pdf) for code in font.cmap)
    except Exception as error:  # A file that is no font fails in as many ways as there are tables.
        raise UnusableFont(f"{_SETTING}: {path} is no font file that can be used") from error
    finally:
        _close(pdf)


def _check_kind(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(4) not in _KINDS:
            raise ValueError("neither TrueType nor OpenType")


def _files_of(pdf: FPDF) -> Iterator[TTFFont]:
    from fpdf.fonts import TTFFont

    return (font for font in pdf.fonts.values() if isinstance(font, TTFFont))


def _close(pdf: FPDF) -> None:
    # The library reads fonts bit by bit and leaves their files open.
    for font in _files_of(pdf):
        font.ttfont.close()


def pdf_of(sheet: Sheet, fonts: PdfFonts) -> bytes:
    """Lay a sheet out on as many pages as it needs; table heads are repeated on each."""
    return _Layout(sheet, fonts).made()


class _Layout:
    def __init__(self, sheet: Sheet, fonts: PdfFonts) -> None:
        self._sheet, self._fonts = sheet, fonts
        self._pdf = _new_pdf(sheet, fonts)
        self._widths: dict[tuple[str, float], dict[str, float]] = {}
        amounts = 30.0
        cost = 28.0 if sheet.has_vendor_cost else 0.0
        quantity = 34.0
        self._columns = (_WIDTH - quantity - cost - amounts, quantity, cost, amounts)

    def made(self) -> bytes:
        try:
            return self._laid_out()
        finally:
            _close(self._pdf)

    def _laid_out(self) -> bytes:
        self._pdf.add_page()
        self._head()
        self._parties()
        self._table()
        self._sums()
        self._notes()
        self._ends()
        self._feet()
        return bytes(self._pdf.output())

    # -- what stands where

    def _head(self) -> None:
        pdf, sheet = self._pdf, self._sheet
        pdf.set_fill_color(*_ACCENT)
        pdf.rect(0, 0, 210, 2.2, style="F")
        self._write(_LEFT, _TOP, sheet.kind, _WIDTH, size=22, bold=True, color=_ACCENT, align="R")
        y = self._lines(_LEFT, _TOP + 1, 100, (sheet.seller_name,), size=12, bold=True)
        y = self._lines(_LEFT, y + 0.5, 100, sheet.seller_lines, color=_MUTED)
        pdf.set_y(max(y, _TOP + 12) + 9)

    def _parties(self) -> None:
        sheet, top = self._sheet, self._pdf.get_y()
        y = self._lines(_LEFT, top, 85, ("Billed to",), size=8.5, color=_MUTED)
        y = self._lines(_LEFT, y, 85, sheet.recipient[:1], size=10.5, bold=True)
        y = self._lines(_LEFT, y, 85, sheet.recipient[1:])
        left, facts = 112.0, top
        for label, value in sheet.facts:
            self._write(left, facts, label, 32, size=9, color=_MUTED)
            facts = self._lines(left + 32, facts, _RIGHT - left - 32, (value,), align="R") + 0.4
        self._pdf.set_y(max(y, facts) + 9)

    def _table(self) -> None:
        self._table_head()
        for row in self._sheet.rows or (Row("Nothing was charged.", "", "", "", ""),):
            self._row(row)

    def _table_head(self) -> None:
        pdf, y = self._pdf, self._pdf.get_y()
        pdf.set_fill_color(*_HEAD)
        pdf.rect(_LEFT, y, _WIDTH, 7, style="F")
        labels = ("Description", "Quantity", "Vendor cost", "Amount (USD)")
        for (x, width), label in zip(self._cells(), labels, strict=True):
            if width:
                align = "L" if x == _LEFT else "R"
                self._write(
                    x + _PAD,
                    y + 1.2,
                    label,
                    width - 2 * _PAD,
                    size=8.5,
                    bold=True,
                    color=_ACCENT,
                    align=align,
                )
        pdf.set_y(y + 7)

    def _row(self, row: Row) -> None:
        width = self._columns[0] - 2 * _PAD
        titles = self._wrapped(row.title, width, size=9.5)
        details = self._wrapped(row.detail, width, size=8) if row.detail else []
        height = 4.6 * len(titles) + 3.8 * len(details) + 2.8
        if self._pdf.get_y() + height > _FOOT:
            self._next_page()
            self._table_head()
        y = self._pdf.get_y() + 1.2
        for (x, column), text in zip(
            self._cells()[1:], (row.quantity, row.vendor_cost, row.amount), strict=True
        ):
            if column and text:
                color = _MUTED if text is row.vendor_cost else _INK
                self._write(x + _PAD, y, text, column - 2 * _PAD, color=color, align="R")
        for text in titles:
            self._write(_LEFT + _PAD, y, text, width)
            y += 4.6
        for text in details:
            self._write(_LEFT + _PAD, y, text, width, size=8, color=_MUTED)
            y += 3.8
        self._rule(y + 1.4)
        self._pdf.set_y(y + 1.6)

    def _sums(self) -> None:
        sheet, pdf = self._sheet, self._pdf
        self._keep_together(6.0 * len(sheet.sums) + 16)
        pdf.set_y(pdf.get_y() + 3)
        left = 100.0
        for line in sheet.sums:
            self._sum(left, line, size=9.5, bold=False)
        y = pdf.get_y() + 1
        self._rule(y, left=left, color=_ACCENT, width=0.5)
        pdf.set_y(y + 1.6)
        self._sum(left, sheet.total, size=12.5, bold=True)
        pdf.set_y(pdf.get_y() + 8)

    def _sum(self, left: float, line: Sum, *, size: float, bold: bool) -> None:
        y, width = self._pdf.get_y(), _RIGHT - left - 2 * _PAD
        labels = self._wrapped(line.label, width - 30, size=size, bold=bold)
        self._write(left + _PAD, y, line.amount, width, size=size, bold=bold, align="R")
        for text in labels:
            self._write(left + _PAD, y, text, width - 30, size=size, bold=bold)
            y += size * 0.53
        self._pdf.set_y(y + 0.4)

    def _notes(self) -> None:
        for note in self._sheet.notes:
            lines = self._wrapped(note, _WIDTH, size=9)
            self._keep_together(4.4 * len(lines))
            y = self._lines(_LEFT, self._pdf.get_y(), _WIDTH, (note,), size=9, color=_MUTED)
            self._pdf.set_y(y + 1.6)

    def _ends(self) -> None:
        bank, contact = self._sheet.bank_lines, self._sheet.seller_contact
        if not bank and not contact:
            return
        self._keep_together(14 + 4.6 * max(len(bank), len(contact)))
        y = self._pdf.get_y() + 4
        self._rule(y)
        for x, label, lines in (
            (_LEFT, "Bank details", bank),
            (_LEFT + 100 if bank else _LEFT, "Contact", contact),
        ):
            if lines:
                below = self._lines(x, y + 3, 74, (label,), size=8.5, color=_MUTED)
                self._lines(x, below, 74, lines, size=9)

    def _feet(self) -> None:
        # Once all pages are there, since only then their number is known.
        pages = self._pdf.pages_count
        for page in range(1, pages + 1):
            self._pdf.page = page
            self._write(_LEFT, 284, self._sheet.title, 120, size=8, color=_MUTED)
            where = f"Page {page} of {pages}"
            self._write(_LEFT, 284, where, _WIDTH, size=8, color=_MUTED, align="R")

    # -- how it is put there

    def _cells(self) -> list[tuple[float, float]]:
        x, cells = _LEFT, []
        for width in self._columns:
            cells.append((x, width))
            x += width
        return cells

    def _keep_together(self, height: float) -> None:
        if self._pdf.get_y() + height > _FOOT:
            self._next_page()

    def _next_page(self) -> None:
        self._pdf.add_page()
        self._pdf.set_y(_TOP)

    def _rule(
        self,
        y: float,
        *,
        left: float = _LEFT,
        color: tuple[int, int, int] = _RULE,
        width: float = 0.2,
    ) -> None:
        self._pdf.set_draw_color(*color)
        self._pdf.set_line_width(width)
        self._pdf.line(left, y, _RIGHT, y)

    def _lines(self, x: float, y: float, width: float, texts: Sequence[str], **look: Any) -> float:
        """Write texts below each other, wrapped; answers where they end."""
        size, bold = look.get("size", 9.5), look.get("bold", False)
        for text in texts:
            for line in self._wrapped(text, width, size=size, bold=bold):
                self._write(x, y, line, width, **look)
                y += size * 0.49
        return y

    def _write(
        self,
        x: float,
        y: float,
        text: str,
        width: float,
        *,
        size: float = 9.5,
        bold: bool = False,
        color: tuple[int, int, int] = _INK,
        align: str = "L",
    ) -> None:
        pdf = self._pdf
        pdf.set_font(_BASE, "B" if bold else "", size)
        pdf.set_text_color(*color)
        pdf.set_xy(x, y)
        pdf.cell(width, size * 0.49, _in_order(self._fonts.printable(text)), align=align)

    def _wrapped(self, text: str, width: float, *, size: float, bold: bool = False) -> list[str]:
        self._pdf.set_font(_BASE, "B" if bold else "", size)
        return list(self._broken(self._fonts.printable(text), width)) or [""]

    def _broken(self, text: str, width: float) -> Iterator[str]:
        """Between words where they fit, else within one."""
        line, taken = "", 0.0
        for word in _WORDS.findall(text):
            long = self._width(word)
            if line and taken + self._width(word.rstrip()) > width:
                yield line.rstrip()
                line, taken = "", 0.0
            while long > width and len(word) > 1:
                cut = self._most_that_fits(word, width)
                yield word[:cut].rstrip()
                word = word[cut:]
                long = self._width(word)
            line, taken = line + word, taken + long
        if line.strip():
            yield line.rstrip()

    def _most_that_fits(self, word: str, width: float) -> int:
        taken = 0.0
        for number, character in enumerate(word):
            taken += self._width(character)
            if taken > width:
                return max(number, 1)
        return len(word)

    def _width(self, text: str) -> float:
        # Nothing is kerned or shaped, so that a text is as wide as its characters.
        known = self._widths.setdefault((self._pdf.font_style, self._pdf.font_size_pt), {})
        for character in text:
            if character not in known:
                known[character] = self._pdf.get_string_width(character)
        return sum(map(known.__getitem__, text))


def _in_order(text: str) -> str:
    """The characters from left to right, as they stand on paper: parts of Hebrew or Arabic run the
    other way (Unicode's bidirectional algorithm)."""
    if not any(unicodedata.bidirectional(character) in ("R", "AL") for character in text):
        return text
    from fpdf.bidi import BidiParagraph

    return BidiParagraph(text).get_reordered_string()


def _new_pdf(sheet: Sheet, fonts: PdfFonts) -> FPDF:
    # Imported here: it takes a third of a second, and only who asks for a PDF needs it.
    from fpdf import FPDF
    from fpdf.prefs import ViewerPreferences

    class Pages(FPDF):
        def file_id(self) -> str:
            name = f"{sheet.title}/{sheet.made_at.astimezone(UTC).isoformat()}"
            digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:32].upper()
            return f"<{digest}><{digest}>"

    pdf = Pages(format="A4")
    pdf.set_auto_page_break(False)
    # No text stands for the number of pages, whatever it looks like.
    pdf.alias_nb_pages("")
    pdf.c_margin = 0
    pdf.set_creation_date(sheet.made_at.astimezone(UTC))
    pdf.set_title(fonts.printable(sheet.title))
    pdf.set_author(fonts.printable(sheet.seller_name))
    pdf.set_lang("en")
    pdf.viewer_preferences = ViewerPreferences(display_doc_title=True)
    fonts.add_to(pdf)
    return pdf
