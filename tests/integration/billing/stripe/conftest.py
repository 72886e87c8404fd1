"""Billing that sells by Stripe: real signatures and bodies, a stand-in on loopback for its API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio

from services.billing.actions import Actions
from services.billing.settings import Settings
from services.billing.storage.unit_of_work import SqlWork
from services.billing.wiring import open_payments
from shared.ids import UserId
from tests.integration.billing.harness import Billing, actions_on, running_billing
from tests.support.billing import FixedPrices, StoppedClock
from tests.support.stripe_stand_in import (
    KEY,
    OLD_SECRET,
    PRICES,
    SECRET,
    StandInStripe,
    signed,
)
from tests.support.tokens import TokenMint, serving

STAFF = UserId(uuid4())


@dataclass
class Shop:
    """Billing that sells by Stripe, and its verbs under a clock that a test can move."""

    billing: Billing
    stripe: StandInStripe
    actions: Actions
    clock: StoppedClock
    ada: UUID = field(default_factory=uuid4)

    async def choose(self, tier: str, seats: int | None = None, **wish: Any) -> httpx.Response:
        body = {"tier": tier, "seats": seats, **wish}
        return await self.billing.send("PUT", "subscription", self.ada, json=body)

    async def choose_unheard(self, tier: str, seats: int) -> httpx.Response:
        """Stripe takes the change, and its answer never comes."""
        self.stripe.loses_answers = True
        try:
            return await self.choose(tier, seats)
        finally:
            self.stripe.loses_answers = False

    async def deliver(self, body: bytes, signature: str | None = None) -> httpx.Response:
        headers = {"stripe-signature": signature or signed(body)}
        path = "/billing/stripe/webhook"
        return await self.billing.public.post(path, content=body, headers=headers)

    async def buy(self, tier: str = "pro", seats: int | None = None) -> dict[str, Any]:
        """Through the checkout and its webhooks; answers Stripe's subscription."""
        session = await self.checkout(tier, seats)
        await self.pay(session)
        return self.stripe.subscriptions[self.stripe.sessions[session]["subscription"]]

    async def checkout(self, tier: str, seats: int | None = None) -> str:
        """The session at Stripe of a wish that waits to be paid."""
        chosen = await self.choose(tier, seats)
        assert chosen.status_code == 202, chosen.text
        return str(chosen.json()["checkout_url"].rpartition("/")[2])

    async def pay(self, session: str) -> None:
        for body in self.stripe.complete(session):
            assert (await self.deliver(body)).status_code == 200

    async def state(self) -> dict[str, Any]:
        shown: dict[str, Any] = (await self.billing.get("subscription", self.ada)).json()
        return shown

    async def charges(self) -> list[tuple[str, int]]:
        listed = (await self.billing.get("charges", self.ada)).json()["data"]
        return [(charge["kind"], charge["amount_microusd"]) for charge in reversed(listed)]

    async def payments(self) -> list[tuple[str, str, int]]:
        rows = await self.billing.database.fetch(
            "select kind, state, amount_microusd from payment where holder_id = $1 order by id",
            self.ada,
        )
        return [(row["kind"], row["state"], row["amount_microusd"]) for row in rows]

    async def unused(self) -> list[dict[str, Any]]:
        """Of ada's payments those that the billing team is shown, since nothing came of them."""
        listed = await self.billing.send(
            "GET", "admin/payments/unused", uuid4(), role="billing", params={"limit": 200}
        )
        return [row for row in listed.json()["data"] if row["holder_id"] == str(self.ada)]

    async def after(self, days: float) -> None:
        """So many days from now, the clock's jobs come by."""
        self.clock.forward(datetime.now(UTC) + timedelta(days=days) - self.clock.now())
        await self.actions.advance_subscriptions()


@pytest_asyncio.fixture(scope="session")
async def stripe_url() -> AsyncIterator[tuple[StandInStripe, str]]:
    """One Stripe for all of them: another would count its ids from the beginning, and billing's
    database, which they share, takes each once."""
    stand_in = StandInStripe()
    async with serving(stand_in) as url:
        yield stand_in, url


@pytest_asyncio.fixture(scope="module")
async def selling(
    engines: dict[str, str],
    settings: Callable[..., Settings],
    mint: TokenMint,
    stripe_url: tuple[StandInStripe, str],
) -> AsyncIterator[tuple[Billing, Actions, StoppedClock]]:
    given = settings(
        **engines,
        stripe_api_key=KEY,
        stripe_webhook_secrets=f"{SECRET}, {OLD_SECRET}",
        stripe_prices=PRICES,
        stripe_api_base=stripe_url[1],
        stripe_return_url="https://companion.example/account",
    )
    clock = StoppedClock(datetime.now(UTC))
    async with running_billing(given, mint) as billing, open_payments(given) as payments:
        actions = actions_on(
            lambda: SqlWork(billing.database),
            given,
            clock,
            list_prices=FixedPrices(),
            payments=payments,
        )
        yield billing, actions, clock


@pytest.fixture
def shop(
    selling: tuple[Billing, Actions, StoppedClock], stripe_url: tuple[StandInStripe, str]
) -> Shop:
    billing, actions, clock = selling
    stripe = stripe_url[0]
    stripe.declines = stripe.down = False
    stripe.refuses = None
    # A test before may have been ahead, and what Stripe tells is of now.
    clock.forward(datetime.now(UTC) - clock.now())
    return Shop(billing, stripe, actions, clock)
