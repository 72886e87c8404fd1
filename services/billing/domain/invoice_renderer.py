"""Invoices as documents that people read, print and keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from services.billing.domain.invoice import CreditNote, Invoice

Document: TypeAlias = "Invoice | CreditNote"


class InvoiceRenderer(Protocol):
    """The same document gives the same bytes, today and in ten years."""

    def html(self, document: Document) -> str:
        """A page without scripts, for screens and for printers."""
        ...

    async def pdf(self, document: Document) -> bytes:
        """Made in a thread of its own, so that the event loop goes on: await it."""
        ...
