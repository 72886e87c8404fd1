"""Invoices and credit notes as HTML and as PDF."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import field

from services.billing.domain.invoice_renderer import Document
from services.billing.domain.seller import Seller
from services.billing.providers.invoice_html import html_of
from services.billing.providers.invoice_pdf import PdfFonts, pdf_of
from services.billing.providers.invoice_sheet import sheet_of
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class DocumentRenderer:
    """Both say the same: they lay out one sheet."""

    sellers: Sequence[Seller]
    fonts: PdfFonts
    # One at a time: laying out is work for one core, of which the event loop wants some.
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    def html(self, document: Document) -> str:
        return html_of(sheet_of(document, self.sellers))

    async def pdf(self, document: Document) -> bytes:
        async with self._turn:
            return await asyncio.to_thread(self._pdf, document)

    def _pdf(self, document: Document) -> bytes:
        return pdf_of(sheet_of(document, self.sellers), self.fonts)
