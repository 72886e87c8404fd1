"""Payments that the billing team sees on an account of its own, and marks as paid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from services.billing.domain.errors import NoPortal, PaymentsUnavailable, WebhooksNotOffered
from services.billing.domain.payment import Checkout, News, Payer, Payment, Wish


class ManualPayments:
    """Nobody pays by themselves, and there is nobody to tell. Reaches no network."""

    name = "manual"
    asks_first = True
    has_checkout = False

    async def checkout(self, _order: Payment, _payer: Payer | None) -> Checkout:
        raise PaymentsUnavailable

    async def withdraw(self, _order: Payment) -> None:
        """There is no page."""

    async def collect_change(self, _order: Payment, _payer: Payer) -> None:
        raise PaymentsUnavailable

    async def tell(self, _payer: Payer, _wish: Wish) -> None:
        """A person reads the list of who owes what."""

    async def collect_again(self, _payer: Payer, _attempt: str) -> None:
        """A person does."""

    async def portal(self, _payer: Payer) -> str:
        raise NoPortal

    async def read(self, _body: bytes, _signature: str | None) -> News | None:
        raise WebhooksNotOffered

    async def news_since(
        self, _cursor: str | None
    ) -> AsyncIterator[tuple[str, datetime, News | None]]:
        none: tuple[tuple[str, datetime, News | None], ...] = ()
        for nothing in none:
            yield nothing


class SandboxPayments(ManualPayments):
    """Nothing costs anything: every change takes effect at once."""

    name = "sandbox"
    asks_first = False
