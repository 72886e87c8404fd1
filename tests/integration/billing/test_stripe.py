"""Paying by Stripe: its real signatures and bodies, with a stand-in on loopback for its API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from services.billing.actions import Actions
from services.billing.actions.change_subscription import Wanted
from services.billing.domain.errors import PaymentNotFound, PaymentsUnavailable
from services.billing.domain.payment import Payer, Payment, PaymentId
from services.billing.domain.ports import Payments
from services.billing.domain.subscription import Holder
from services.billing.settings import Settings
from services.billing.storage.unit_of_work import SqlWork
from services.billing.wiring import build_actions, open_payments
from shared.erasure import ErasureId
from shared.ids import UserId
from tests.integration.billing.harness import Billing, running_billing
from tests.support.billing import FixedCounters, FixedOrganisations, FixedPrices, StoppedClock
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

# Stripe's package gives httpx its forms in a way that httpx would rather not have.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


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

    async def deliver(self, body: bytes, signature: str | None = None) -> httpx.Response:
        headers = {"stripe-signature": signature or signed(body)}
        path = "/billing/stripe/webhook"
        return await self.billing.public.post(path, content=body, headers=headers)

    async def buy(self, tier: str = "pro", seats: int | None = None) -> dict[str, Any]:
        """Through the checkout and its webhooks; answers Stripe's subscription."""
        chosen = await self.choose(tier, seats)
        assert chosen.status_code == 202, chosen.text
        session = chosen.json()["checkout_url"].rpartition("/")[2]
        for body in self.stripe.complete(session):
            assert (await self.deliver(body)).status_code == 200
        return self.stripe.subscriptions[self.stripe.sessions[session]["subscription"]]

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

    async def after(self, days: float) -> None:
        """So many days from now, the clock's jobs come by."""
        self.clock.move(datetime.now(UTC) + timedelta(days=days) - self.clock.now())
        await self.actions.advance_subscriptions()


@pytest_asyncio.fixture(scope="module")
async def stripe_url() -> AsyncIterator[tuple[StandInStripe, str]]:
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
        actions = build_actions(
            lambda: SqlWork(billing.database),
            list_prices=FixedPrices(),
            counters=FixedCounters({}),
            organisations=FixedOrganisations(),
            payments=payments,
            clock=clock,
            settings=given,
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
    clock.move(datetime.now(UTC) - clock.now())
    return Shop(billing, stripe, actions, clock)


async def test_a_purchase_waits_for_the_checkout_and_takes_effect_with_its_webhook(
    shop: Shop,
) -> None:
    chosen = await shop.choose("enterprise", 3)
    assert chosen.status_code == 202, chosen.text
    assert chosen.json()["amount_microusd"] == 45_000_000
    assert (await shop.state())["tier"] == "free"
    assert (await shop.choose("enterprise", 3)).json()["checkout_url"] == (
        chosen.json()["checkout_url"]
    )
    *_others, completed = shop.stripe.complete(chosen.json()["checkout_url"].rpartition("/")[2])
    for _delivery in range(2):
        assert (await shop.deliver(completed)).json() == {"received": True}
    state = await shop.state()
    assert (state["tier"], state["seats"], state["state"]) == ("enterprise", 3, "active")
    assert await shop.charges() == [("period_fee", 45_000_000)]
    assert await shop.payments() == [("order", "paid", 45_000_000)]
    [told] = await shop.billing.database.fetch(
        "select envelope from outbox where envelope ->> 'subject' = $1", str(shop.ada)
    )
    assert told["envelope"]["data"]["tier_name"] == "enterprise"


async def test_a_webhook_that_is_lost_is_found_in_stripes_own_list(shop: Shop) -> None:
    chosen = await shop.choose("pro")
    shop.stripe.complete(chosen.json()["checkout_url"].rpartition("/")[2])
    assert (await shop.state())["tier"] == "free"
    assert await shop.actions.catch_up_on_payments() >= 1
    assert (await shop.state())["tier"] == "pro"
    await shop.actions.catch_up_on_payments()
    assert await shop.charges() == [("period_fee", 9_000_000)]


async def test_more_seats_are_collected_at_once_or_not_given(shop: Shop) -> None:
    await shop.buy("enterprise", 2)
    shop.stripe.declines = True
    declined = await shop.choose("enterprise", 4)
    assert (declined.status_code, declined.json()["code"]) == (402, "payment_declined")
    assert (await shop.state())["seats"] == 2
    shop.stripe.declines = False
    more = await shop.choose("enterprise", 4)
    assert (more.status_code, more.json()["seats"]) == (200, 4), more.text
    kinds = [kind for kind, _ in await shop.charges()]
    assert kinds == ["period_fee", "proration_credit", "proration_debit"]
    for event in shop.stripe.events[-1:]:
        await shop.deliver(json.dumps(event).encode())
    assert len(await shop.charges()) == 3


async def test_what_stripe_collected_for_a_change_is_what_was_paid(shop: Shop) -> None:
    subscription = await shop.buy("enterprise", 2)
    await shop.choose("enterprise", 4)
    assert (await shop.payments())[-1][:2] == ("order", "paid")
    # Its own proration is in cents; so is what a later change by hand costs, which is no order's.
    for cents in (2_999, 777):
        invoice = shop.stripe.an_invoice(subscription, reason="subscription_update", paid=True)
        invoice["amount_paid"] = cents
        assert (await shop.deliver(shop.stripe.emit("invoice.paid", invoice))).status_code == 200
    assert await shop.payments() == [
        ("order", "paid", 30_000_000),
        ("order", "paid", 29_990_000),
    ]
    balance = (await shop.billing.get("balance", shop.ada)).json()
    charged = sum(amount for _, amount in await shop.charges())
    assert balance["paid_microusd"] == 59_990_000
    assert balance["uninvoiced_microusd"] == charged
    assert balance["expected_microusd"] == charged - 59_990_000


async def test_a_change_that_stripe_took_and_we_forgot_is_settled_by_its_event(
    shop: Shop,
) -> None:
    subscription = await shop.buy("enterprise", 2)
    # We ask, Stripe does it, and its answer never comes.
    shop.stripe.loses_answers = True
    try:
        refused = await shop.choose("enterprise", 5)
    finally:
        shop.stripe.loses_answers = False
    assert (refused.status_code, refused.json()["code"]) == (503, "payments_unavailable")
    assert (subscription["items"]["data"][0]["quantity"], (await shop.state())["seats"]) == (5, 2)
    updated = json.dumps(shop.stripe.events[-1]).encode()
    assert (await shop.deliver(updated)).status_code == 200
    assert (await shop.state())["seats"] == 5
    # Asking again finds nothing left to do.
    assert (await shop.choose("enterprise", 5)).status_code == 200
    assert len(await shop.charges()) == 3


@pytest.mark.parametrize(
    ("meanwhile", "seats", "state"),
    [("nothing", 5, "paid"), ("more", 6, "paid"), ("ended", 5, "paid")],
)
async def test_a_change_that_stripe_took_is_paid_also_when_another_wish_took_its_place(
    shop: Shop, meanwhile: str, seats: int, state: str
) -> None:
    subscription = await shop.buy("enterprise", 2)
    shop.stripe.loses_answers = True
    try:
        await shop.choose("enterprise", 5)
    finally:
        shop.stripe.loses_answers = False
    invoice = shop.stripe.an_invoice(subscription, reason="subscription_update", paid=True)
    invoice["amount_paid"] = 4_499
    shop.stripe.declines = True
    assert (await shop.choose("enterprise", 4)).json()["code"] == "payment_declined"
    shop.stripe.declines = False
    if meanwhile == "more":
        assert (await shop.choose("enterprise", 6)).status_code == 200
    elif meanwhile == "ended":
        await shop.deliver(shop.stripe.emit("customer.subscription.deleted", subscription))
    for _twice in range(2):
        assert (await shop.deliver(shop.stripe.emit("invoice.paid", invoice))).status_code == 200
    assert (await shop.state())["seats"] == seats
    assert (await shop.payments())[1] == ("order", state, 44_990_000)
    paid = sum(amount for _, state, amount in await shop.payments() if state != "void")
    assert (await shop.billing.get("balance", shop.ada)).json()["paid_microusd"] == paid


@pytest.mark.parametrize(
    "order",
    [
        ("renewal", "updated", "change"),
        ("updated", "change", "renewal"),
        ("failed", "updated", "change", "renewal"),
        ("failed", "renewal", "updated", "change"),
        ("failed", "renewal", "change", "updated"),
    ],
)
async def test_a_change_that_is_told_after_the_turn_of_its_period_counts_in_any_order(
    shop: Shop, order: tuple[str, ...]
) -> None:
    await shop.after(0)
    subscription = await shop.buy("enterprise", 2)
    shop.stripe.loses_answers = True
    try:
        await shop.choose("enterprise", 3)
    finally:
        shop.stripe.loses_answers = False
    updated = json.dumps(shop.stripe.events[-1]).encode()
    invoice = shop.stripe.an_invoice(subscription, reason="subscription_update", paid=True)
    change = shop.stripe.emit("invoice.paid", invoice | {"amount_paid": 10})
    await shop.after(31.2)
    renewed = shop.stripe.an_invoice(subscription, paid=True) | {"amount_paid": 4_500}
    told = {
        "updated": updated,
        "change": change,
        "failed": shop.stripe.emit("invoice.payment_failed", renewed | {"amount_paid": 0}),
        "renewal": shop.stripe.emit("invoice.paid", renewed),
    }
    for name in order:
        assert (await shop.deliver(told[name])).status_code == 200
    state = await shop.state()
    assert (state["seats"], state["state"], state["owed_microusd"]) == (3, "active", 0)
    assert sorted(await shop.payments()) == [
        ("order", "paid", 100_000),
        ("order", "paid", 30_000_000),
        ("renewal", "paid", 45_000_000),
    ]
    kinds = [kind for kind, _ in await shop.charges()]
    assert kinds == ["period_fee", "period_fee", "proration_credit", "proration_debit"]
    balance = (await shop.billing.get("balance", shop.ada)).json()
    # Of the period that begins all is charged but the seconds of 0.2 days at the old terms.
    assert -300_000 < balance["expected_microusd"] <= -100_000


@dataclass
class SlowAnswers:
    """Stripe, whose events come before its answers."""

    payments: Payments
    shop: Shop

    async def collect_change(self, order: Payment, payer: Payer) -> None:
        await self.payments.collect_change(order, payer)
        updated = json.dumps(self.shop.stripe.events[-1]).encode()
        assert (await self.shop.deliver(updated)).status_code == 200

    def __getattr__(self, name: str) -> Any:
        return getattr(self.payments, name)


async def test_a_change_whose_event_comes_before_its_answer_is_told_as_it_is(shop: Shop) -> None:
    await shop.buy("enterprise", 2)
    shop.clock.move(datetime.now(UTC) - shop.clock.now())
    change = shop.actions.change_subscription
    change = replace(change, payments=SlowAnswers(change.payments, shop))
    ada = UserId(shop.ada)
    outcome = await change(Holder(ada), Wanted("enterprise", 5), by=ada)
    assert (outcome.subscription.seats, outcome.charges) == (5, ())
    assert len(await shop.charges()) == 3


async def test_a_renewal_is_paid_by_its_invoice_whichever_comes_first(shop: Shop) -> None:
    subscription = await shop.buy()
    invoice = shop.stripe.an_invoice(subscription, paid=True)
    early = shop.stripe.emit("invoice.paid", invoice)
    await shop.deliver(early)
    await shop.after(31.5)
    state = await shop.state()
    assert (state["state"], state["owed_microusd"]) == ("active", 0)
    assert await shop.charges() == [("period_fee", 9_000_000)] * 2
    assert await shop.payments() == [("order", "paid", 9_000_000), ("renewal", "paid", 9_000_000)]


async def test_a_failed_renewal_is_dunned_paid_and_forgiven(shop: Shop) -> None:
    subscription = await shop.buy()
    await shop.after(31.5)
    assert (await shop.state())["owed_microusd"] == 9_000_000
    invoice = shop.stripe.an_invoice(subscription, paid=False)
    failed = shop.stripe.emit("invoice.payment_failed", invoice)
    await shop.deliver(failed)
    assert (await shop.state())["state"] == "past_due"
    [row] = await shop.billing.database.fetch(
        "select s.unpaid_since, o.envelope->'data'->>'holds_until' as until"
        " from subscription s join outbox o on o.envelope->>'subject' = s.user_id::text"
        " where s.user_id = $1 and o.envelope->>'type' = 'payment.overdue'",
        shop.ada,
    )
    assert datetime.fromisoformat(row["until"]) == row["unpaid_since"] + timedelta(days=10)
    refused = await shop.choose("enterprise", 2)
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_outstanding")
    listed = await shop.billing.send(
        "GET", "admin/subscriptions/past-due", uuid4(), role="billing", params={"limit": 200}
    )
    assert str(shop.ada) in {row["holder_id"] for row in listed.json()["data"]}
    # The retry of the first day is accepted, and Stripe says so.
    await shop.after(32.6)
    assert shop.stripe.invoices[invoice["id"]]["status"] == "paid"
    await shop.deliver(json.dumps(shop.stripe.events[-1]).encode())
    state = await shop.state()
    assert (state["state"], state["owed_microusd"]) == ("active", 0)
    # The failure comes once more, and late: it says nothing about what was paid since.
    late = shop.stripe.emit("invoice.payment_failed", invoice, created=int(time.time()) - 900)
    await shop.deliver(late)
    assert (await shop.state())["state"] == "active"


async def test_who_never_pays_falls_back_after_the_grace_and_stripe_stops(shop: Shop) -> None:
    subscription = await shop.buy()
    shop.stripe.declines = True
    shop.stripe.an_invoice(subscription, paid=False)
    await shop.after(31.5)
    for day in (32.6, 34.6, 36.6, 38.6):
        await shop.after(day)
        state = await shop.state()
        assert (state["state"], state["tier"]) == ("past_due", "pro")
    await shop.after(41.6)
    state = await shop.state()
    assert (state["state"], state["tier"]) == ("ended", "free")
    assert (await shop.charges())[-1] == ("write_off", -9_000_000)
    assert await shop.actions.tell_payers() >= 1
    assert subscription["id"] not in shop.stripe.subscriptions
    assert await shop.actions.tell_payers() == 0


async def test_cancelling_here_and_there_is_the_same(shop: Shop) -> None:
    subscription = await shop.buy()
    cancelled = await shop.billing.send("POST", "subscription/cancel", shop.ada)
    assert cancelled.json()["state"] == "cancelled"
    await shop.actions.tell_payers()
    assert subscription["cancel_at_period_end"]
    resumed = await shop.billing.send("POST", "subscription/resume", shop.ada, json={})
    assert resumed.json()["state"] == "active"
    await shop.actions.tell_payers()
    assert not subscription["cancel_at_period_end"]
    # On Stripe's page, later than within the second in which Stripe was told.
    subscription["cancel_at_period_end"] = True
    later = int(time.time()) + 1
    await shop.deliver(
        shop.stripe.emit("customer.subscription.updated", subscription, created=later)
    )
    assert (await shop.state())["state"] == "cancelled"
    stale = {**subscription, "cancel_at_period_end": False}
    old = shop.stripe.emit("customer.subscription.updated", stale, created=int(time.time()) - 60)
    await shop.deliver(old)
    assert (await shop.state())["state"] == "cancelled"
    await shop.after(31.5)
    assert (await shop.state())["tier"] == "free"


async def test_a_subscription_that_stripe_ended_holds_as_long_as_it_is_paid(shop: Shop) -> None:
    subscription = await shop.buy()
    await shop.deliver(shop.stripe.emit("customer.subscription.deleted", subscription))
    state = await shop.state()
    assert (state["tier"], state["state"]) == ("pro", "cancelled")


async def test_what_stripe_tells_of_a_deleted_account_brings_nothing_back(shop: Shop) -> None:
    subscription = await shop.buy()
    await shop.actions.forget_user.begin([(UserId(shop.ada), ErasureId(uuid4()))])
    late = shop.stripe.an_invoice(subscription, paid=True)
    failed = shop.stripe.an_invoice(subscription, paid=False)
    for body in (
        shop.stripe.emit("customer.subscription.updated", {**subscription, "status": "past_due"}),
        shop.stripe.emit("invoice.paid", late),
        shop.stripe.emit("invoice.payment_failed", failed),
        shop.stripe.emit("customer.subscription.deleted", subscription),
    ):
        assert (await shop.deliver(body)).status_code == 200
    kept = await shop.billing.database.fetch(
        "select * from subscription where user_id = $1", shop.ada
    )
    assert kept == []
    assert await shop.payments() == [
        ("order", "paid", 9_000_000),
        ("renewal", "unused", 9_000_000),
    ]
    # It ended there already: nobody has to end it once more.
    [payer] = await shop.billing.database.fetch(
        "select subscription from payer where holder_id = $1", shop.ada
    )
    assert payer["subscription"] is None


async def test_fewer_seats_are_told_to_stripe_for_its_next_invoice(shop: Shop) -> None:
    subscription = await shop.buy("enterprise", 5)
    fewer = await shop.choose("enterprise", 3)
    assert fewer.json()["from_next_period"] == {"tier": "enterprise", "seats": 3}
    assert fewer.json()["effective_at"] == fewer.json()["period_ends"]
    assert fewer.json()["seats"] == 5
    await shop.actions.tell_payers()
    assert subscription["items"]["data"][0]["quantity"] == 3
    asked = [form for method, _, form in shop.stripe.calls if method == "POST"][-1]
    assert asked["proration_behavior"] == "none"


async def test_refunds_and_disputes_are_noted_and_change_no_tier(shop: Shop) -> None:
    subscription = await shop.buy()
    charge = {
        "id": shop.stripe.new_id("ch"),
        "object": "charge",
        "customer": subscription["customer"],
        "amount": 900,
        "amount_refunded": 400,
    }
    shop.stripe.charges[charge["id"]] = charge
    await shop.deliver(shop.stripe.emit("charge.refunded", {**charge, "amount_refunded": 900}))
    await shop.deliver(shop.stripe.emit("charge.refunded", charge))
    dispute = {"id": shop.stripe.new_id("dp"), "object": "dispute", "amount": 900}
    dispute["charge"] = charge["id"]
    # An inquiry moves no money.
    await shop.deliver(shop.stripe.emit("charge.dispute.created", dispute))
    assert (await shop.payments())[1:] == [("refund", "paid", -9_000_000)]
    await shop.deliver(shop.stripe.emit("charge.dispute.funds_withdrawn", dispute))
    assert (await shop.payments())[1:] == [
        ("refund", "paid", -9_000_000),
        ("dispute", "paid", -9_000_000),
    ]
    assert (await shop.state())["tier"] == "pro"


async def test_a_dispute_that_was_won_is_no_money_lost(shop: Shop) -> None:
    subscription = await shop.buy()
    charge = {"id": shop.stripe.new_id("ch"), "customer": subscription["customer"]}
    shop.stripe.charges[charge["id"]] = {**charge, "object": "charge"}
    now = int(time.time())
    dispute = {"id": shop.stripe.new_id("dp"), "object": "dispute", "amount": 900}
    dispute["charge"] = charge["id"]
    lost = shop.stripe.emit("charge.dispute.funds_withdrawn", dispute, created=now - 60)
    await shop.deliver(lost)
    assert (await shop.payments())[1:] == [("dispute", "paid", -9_000_000)]
    won = {**dispute, "status": "won"}
    await shop.deliver(shop.stripe.emit("charge.dispute.funds_reinstated", won, created=now))
    # What happened before it is told once more, and late.
    late = shop.stripe.emit("charge.dispute.funds_withdrawn", dispute, created=now - 60)
    await shop.deliver(late)
    assert (await shop.payments())[1:] == [("dispute", "paid", 0)]
    assert (await shop.billing.get("balance", shop.ada)).json()["returned_microusd"] == 0


async def test_a_refund_that_came_back_is_none(shop: Shop) -> None:
    subscription = await shop.buy()
    now = int(time.time())
    charge = {"id": shop.stripe.new_id("ch"), "object": "charge"}
    charge["customer"] = subscription["customer"]
    for cents, at in ((400, now - 90), (900, now - 60), (400, now - 30), (900, now - 60)):
        told = {**charge, "amount_refunded": cents}
        await shop.deliver(shop.stripe.emit("charge.refunded", told, created=at))
    assert (await shop.payments())[1:] == [("refund", "paid", -4_000_000)]


async def test_of_two_paid_subscriptions_one_ends_and_what_it_still_takes_is_shown(
    shop: Shop,
) -> None:
    pages = []
    for tier, seats in (("pro", None), ("enterprise", 2)):
        chosen = await shop.choose(tier, seats)
        pages.append(chosen.json()["checkout_url"].rpartition("/")[2])
    for page in pages:
        for body in shop.stripe.complete(page):
            await shop.deliver(body)
    assert (await shop.state())["tier"] == "enterprise"
    first, second = (shop.stripe.sessions[page]["subscription"] for page in pages)
    gone = shop.stripe.subscriptions[first]
    # Before it can be ended Stripe collects for it once more, and fails for it another time.
    invoice = shop.stripe.an_invoice(gone, paid=True)
    with capture_logs() as said:
        for _twice in range(2):
            await shop.deliver(shop.stripe.emit("invoice.paid", invoice))
    assert [line["holder"] for line in said if line["event"] == "renewal_of_nothing"] == [
        str(shop.ada)
    ]
    failed = shop.stripe.an_invoice(gone, paid=False)
    await shop.after(31.5)
    await shop.deliver(shop.stripe.emit("invoice.payment_failed", failed))
    assert (await shop.state())["state"] == "active"
    assert (await shop.payments())[:3] == [
        ("order", "unused", 9_000_000),
        ("order", "paid", 30_000_000),
        ("renewal", "unused", 9_000_000),
    ]
    shop.stripe.down = True
    with pytest.raises(PaymentsUnavailable):
        await shop.actions.tell_payers()
    shop.stripe.down = False
    shop.clock.move(timedelta(minutes=2))
    await shop.actions.tell_payers()
    assert first not in shop.stripe.subscriptions
    assert second in shop.stripe.subscriptions


async def test_who_paid_twice_and_got_more_by_the_second_is_shown_to_the_billing_team(
    shop: Shop,
) -> None:
    pages = []
    for tier, seats in (("pro", None), ("enterprise", 2)):
        chosen = await shop.choose(tier, seats)
        pages.append(chosen.json()["checkout_url"].rpartition("/")[2])
    with capture_logs() as said:
        for page in pages:
            for body in shop.stripe.complete(page):
                await shop.deliver(body)
    listed = await shop.billing.send(
        "GET", "admin/payments/unused", uuid4(), role="billing", params={"limit": 200}
    )
    [shown] = [row for row in listed.json()["data"] if row["holder_id"] == str(shop.ada)]
    assert shown["amount_microusd"] == 9_000_000
    [line] = [line for line in said if line["event"] == "paid_twice"]
    assert (line["holder"], line["payment"]) == (str(shop.ada), shown["payment_id"])
    # Given back at Stripe, it waits for the billing team no longer.
    customer = shop.stripe.sessions[pages[0]]["customer"]
    charge = {"id": shop.stripe.new_id("ch"), "object": "charge", "customer": customer}
    await shop.deliver(shop.stripe.emit("charge.refunded", {**charge, "amount_refunded": 900}))
    assert (await shop.payments())[0] == ("order", "paid", 9_000_000)
    assert (await shop.billing.get("balance", shop.ada)).json()["returned_microusd"] == 9_000_000


async def test_a_refund_that_could_be_of_another_payment_takes_none_off_the_list(
    shop: Shop,
) -> None:
    subscription = await shop.buy("pro")
    customer, unused = subscription["customer"], uuid4()
    charges = [
        {"id": shop.stripe.new_id("ch"), "object": "charge", "customer": customer} for _ in "ab"
    ]

    async def refund(charge: dict[str, Any], cents: int, *, seconds_ago: int = 0) -> None:
        told, at = {**charge, "amount_refunded": cents}, int(time.time()) - seconds_ago
        await shop.deliver(shop.stripe.emit("charge.refunded", told, created=at))

    async def arrive(microusd: int) -> None:
        await shop.billing.database.execute(
            "insert into payment (id, holder_id, is_organisation, kind, state, provider,"
            " amount_microusd, asked_by, created_at)"
            " values ($1, $2, false, 'order', 'unused', 'stripe', $3, $2, now())"
            " on conflict (id) do update set amount_microusd = excluded.amount_microusd",
            unused,
            shop.ada,
            microusd,
        )

    async def waits() -> bool:
        return ("order", "unused") in {payment[:2] for payment in await shop.payments()}

    await arrive(9_000_000)
    await refund(charges[0], 900)
    assert await waits()
    # Told once more: that went back already.
    await arrive(8_000_000)
    await refund(charges[1], 700, seconds_ago=20)
    await arrive(7_000_000)
    await refund(charges[1], 700, seconds_ago=10)
    assert await waits()
    await refund(charges[1], 800)
    await arrive(8_000_000)
    await refund({**charges[1], "id": shop.stripe.new_id("ch")}, 800)
    assert not await waits()


async def test_who_buys_anew_before_stripe_heard_of_the_end_pays_once(shop: Shop) -> None:
    first = await shop.buy()
    granted = await shop.billing.send(
        "PUT", f"admin/subscriptions/{shop.ada}", uuid4(), role="billing", json={"tier": "free"}
    )
    assert granted.status_code == 200, granted.text
    second = await shop.buy()
    await shop.actions.tell_payers()
    assert first["id"] not in shop.stripe.subscriptions
    assert second["id"] in shop.stripe.subscriptions


async def test_a_payer_whom_stripe_refuses_holds_up_nobody(shop: Shop) -> None:
    people = []
    for _ in range(2):
        shop.ada = uuid4()
        people.append((shop.ada, await shop.buy("enterprise", 2)))
    (_, refused), (_, other) = sorted(people, key=lambda pair: pair[0])
    for who, _sold in people:
        assert (await shop.billing.send("POST", "subscription/cancel", who)).status_code == 200
    shop.stripe.refuses = refused["id"]
    with pytest.raises(PaymentsUnavailable):
        await shop.actions.tell_payers()
    assert other["cancel_at_period_end"] and not refused["cancel_at_period_end"]
    # It waits before it is tried again, and is tried again then.
    assert await shop.actions.tell_payers() == 0
    shop.stripe.refuses = None
    shop.clock.move(timedelta(minutes=2))
    assert await shop.actions.tell_payers() == 1
    assert refused["cancel_at_period_end"]


async def test_an_end_is_told_without_terms_and_terms_are_told_when_it_is_taken_back(
    shop: Shop,
) -> None:
    subscription = await shop.buy("enterprise", 5)
    await shop.choose("enterprise", 3)
    await shop.actions.tell_payers()
    await shop.billing.send("POST", "subscription/cancel", shop.ada)
    await shop.actions.tell_payers()
    asked = [form for method, _, form in shop.stripe.calls if method == "POST"][-1]
    assert asked == {"cancel_at_period_end": "true"}
    assert await shop.actions.tell_payers() == 0
    await shop.billing.send("POST", "subscription/resume", shop.ada, json={})
    await shop.actions.tell_payers()
    # What was planned for the period's end was forgotten with the cancellation.
    assert subscription["items"]["data"][0]["quantity"] == 5
    assert not subscription["cancel_at_period_end"]


async def test_the_portal_is_stripes(shop: Shop) -> None:
    none = await shop.billing.send("POST", "subscription/portal", shop.ada)
    assert (none.status_code, none.json()["code"]) == (409, "no_payment_portal")
    subscription = await shop.buy()
    there = await shop.billing.send("POST", "subscription/portal", shop.ada)
    assert there.json()["url"].endswith(subscription["customer"])


async def test_a_preview_writes_nothing_and_asks_nobody(shop: Shop) -> None:
    asked = len(shop.stripe.calls)
    body = {"tier": "enterprise", "seats": 2}
    seen = await shop.billing.send("PUT", "subscription?preview=true", shop.ada, json=body)
    assert (seen.status_code, seen.json()["amount_microusd"]) == (200, 30_000_000)
    assert len(shop.stripe.calls) == asked
    rows = await shop.billing.database.fetch(
        "select user_id from subscription where user_id = $1"
        " union all select holder_id from payment where holder_id = $1",
        shop.ada,
    )
    assert rows == []


async def test_while_stripe_is_away_nothing_is_half_done(shop: Shop) -> None:
    shop.stripe.down = True
    away = await shop.choose("pro")
    assert (away.status_code, away.json()["code"]) == (503, "payments_unavailable")
    with pytest.raises(PaymentsUnavailable):
        await shop.actions.catch_up_on_payments()
    shop.stripe.down = False
    assert (await shop.choose("pro")).status_code == 202
    assert await shop.payments() == [("order", "open", 9_000_000)]


async def test_the_same_event_from_many_deliveries_counts_once(shop: Shop) -> None:
    chosen = await shop.choose("pro")
    bodies = shop.stripe.complete(chosen.json()["checkout_url"].rpartition("/")[2])
    answers = await asyncio.gather(*(shop.deliver(body) for body in bodies * 4))
    assert {answer.status_code for answer in answers} == {200}
    assert await shop.charges() == [("period_fee", 9_000_000)]


async def test_another_choice_closes_the_page_of_the_one_before(shop: Shop) -> None:
    first = (await shop.choose("pro")).json()["checkout_url"].rpartition("/")[2]
    second = (await shop.choose("enterprise", 2)).json()["checkout_url"].rpartition("/")[2]
    assert shop.stripe.sessions[first]["status"] == "expired"
    assert shop.stripe.sessions[second]["status"] == "open"
    # Nobody was told to transfer anything for it, and its page may have been faster.
    rows = await shop.billing.database.fetch(
        "select id from payment where holder_id = $1 order by id", shop.ada
    )
    closed, waiting = (PaymentId(row["id"]) for row in rows)
    listed = await shop.actions.list_unpaid_orders(UserId(shop.ada), before=None, most=10)
    assert [one.order.id for one in listed] == [waiting]
    with pytest.raises(PaymentNotFound):
        await shop.actions.mark_paid(closed, by=STAFF)


async def test_who_pays_twice_is_collected_from_once_and_shown_to_the_billing_team(
    shop: Shop,
) -> None:
    pages = []
    for tier, seats in (("enterprise", 2), ("pro", None)):
        chosen = await shop.choose(tier, seats)
        pages.append(chosen.json()["checkout_url"].rpartition("/")[2])
    # Both were open in a browser, and were paid before anything could be closed.
    for page in pages:
        for body in shop.stripe.complete(page):
            await shop.deliver(body)
    assert (await shop.state())["tier"] == "enterprise"
    kept, spare = (shop.stripe.sessions[page]["subscription"] for page in pages)
    await shop.actions.tell_payers()
    assert kept in shop.stripe.subscriptions
    assert spare not in shop.stripe.subscriptions
    listed = await shop.billing.send(
        "GET", "admin/payments/unused", uuid4(), role="billing", params={"limit": 200}
    )
    assert str(shop.ada) in {row["holder_id"] for row in listed.json()["data"]}
    assert await shop.charges() == [("period_fee", 30_000_000)]


@pytest.mark.parametrize("has_another", [False, True])
async def test_what_is_paid_by_hand_and_at_its_checkout_is_booked_twice(
    shop: Shop, has_another: bool
) -> None:
    chosen = await shop.choose("enterprise", 2)
    page = chosen.json()["checkout_url"].rpartition("/")[2]
    [order] = await shop.billing.database.fetch(
        "select id from payment where holder_id = $1", shop.ada
    )
    shop.clock.move(datetime.now(UTC) - shop.clock.now())
    await shop.actions.mark_paid(order["id"], by=STAFF, received_microusd=36_000_000)
    if has_another:
        # Somebody else is paid by already.
        await shop.billing.database.execute(
            "insert into payer (holder_id, is_organisation, provider, customer, subscription)"
            " values ($1, false, 'stripe', $2, $2)",
            shop.ada,
            f"other_{shop.ada}",
        )
    with capture_logs() as said:
        for body in shop.stripe.complete(page):
            await shop.deliver(body)
        # Told once more, as another event.
        session = shop.stripe.sessions[page]
        await shop.deliver(shop.stripe.emit("checkout.session.async_payment_succeeded", session))
    assert await shop.payments() == [
        ("order", "paid", 36_000_000),
        ("order", "unused", 30_000_000),
    ]
    assert (await shop.billing.get("balance", shop.ada)).json()["paid_microusd"] == 66_000_000
    listed = await shop.billing.send(
        "GET", "admin/payments/unused", uuid4(), role="billing", params={"limit": 200}
    )
    [shown] = [row for row in listed.json()["data"] if row["holder_id"] == str(shop.ada)]
    assert (shown["provider"], shown["reference"]) == ("stripe", page)
    [line] = [line for line in said if line["event"] == "paid_twice"]
    assert (line["holder"], line["payment"]) == (str(shop.ada), shown["payment_id"])
    assert await shop.charges() == [("period_fee", 30_000_000)]
    # Given back at Stripe, it waits for the billing team no longer.
    charge = {"id": shop.stripe.new_id("ch"), "object": "charge", "amount_refunded": 3_000}
    customer = f"other_{shop.ada}" if has_another else session["customer"]
    await shop.deliver(shop.stripe.emit("charge.refunded", {**charge, "customer": customer}))
    assert ("order", "unused", 30_000_000) not in await shop.payments()


async def test_a_change_that_was_paid_by_hand_and_is_collected_all_the_same_is_booked_twice(
    shop: Shop,
) -> None:
    subscription = await shop.buy("enterprise", 2)
    # We ask, Stripe does it, its answer never comes, and neither does its event.
    shop.stripe.loses_answers = True
    try:
        await shop.choose("enterprise", 4)
    finally:
        shop.stripe.loses_answers = False
    [order] = await shop.billing.database.fetch(
        "select id from payment where holder_id = $1 and state = 'open'", shop.ada
    )
    shop.clock.move(datetime.now(UTC) - shop.clock.now())
    await shop.actions.mark_paid(order["id"], by=STAFF, received_microusd=30_000_000)
    invoice = shop.stripe.an_invoice(subscription, reason="subscription_update", paid=True)
    invoice["amount_paid"] = 2_999
    for _twice in range(2):
        await shop.deliver(shop.stripe.emit("invoice.paid", invoice))
    assert await shop.payments() == [
        ("order", "paid", 30_000_000),
        ("order", "paid", 30_000_000),
        ("order", "unused", 29_990_000),
    ]
    # It has to be given back, and is no part of what is collected for a change after it.
    await shop.choose("enterprise", 6)
    assert ("order", "unused", 29_990_000) in await shop.payments()


async def test_events_in_the_wrong_order_end_at_the_same(shop: Shop) -> None:
    chosen = await shop.choose("pro")
    bodies = shop.stripe.complete(chosen.json()["checkout_url"].rpartition("/")[2])
    for body in reversed(bodies):
        await shop.deliver(body)
    assert (await shop.state())["tier"] == "pro"
    assert await shop.charges() == [("period_fee", 9_000_000)]


async def test_the_list_of_events_is_read_to_its_end_and_in_its_order(
    settings: Callable[..., Settings],
) -> None:
    stripe = StandInStripe()
    charge = {"id": "ch_1", "object": "charge", "customer": "cus_1", "amount_refunded": 1}
    now = int(time.time())
    # A day apart from each other at first, then many at once.
    moments = [now - 20 * 86_400, now - 4 * 86_400, *[now - 600] * 130, *[now] * 120]
    for moment in moments:
        stripe.emit("charge.refunded", charge, created=moment)
        stripe.emit("coupon.created", {"id": "co", "object": "coupon"}, created=moment)
    ids = [event["id"] for event in stripe.events if event["type"] == "charge.refunded"]
    async with serving(stripe) as url:
        given = settings(
            stripe_api_key=KEY,
            stripe_webhook_secrets=SECRET,
            stripe_prices=PRICES,
            stripe_api_base=url,
            stripe_return_url="https://companion.example/account",
        )
        async with open_payments(given) as payments:

            async def read(cursor: str | None) -> list[str]:
                return [event_id async for event_id, _, _ in payments.news_since(cursor)]

            assert await read(None) == ids[2:]
            assert await read(ids[0]) == ids[1:]
            assert await read(ids[-1]) == []
            # Nothing happened for so long that Stripe has forgotten where we were.
            assert await read("evt_forgotten") == ids


# The door


BODY = json.dumps({"id": "evt_x", "object": "event", "type": "invoice.paid", "data": {}}).encode()


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "t=1,v1=00",
        signed(BODY, "whsec_" + "stranger"),
        signed(BODY, at=time.time() - 600),
        signed(BODY + b" "),
        signed(BODY).replace("v1=", "v0="),
        "t=x,v1=y",
        "t=9" + "9" * 5_000 + ",v1=00",
        "v1",
        ",,,",
        "t=1,v1=\xe9",
    ],
    ids=range(11),
)
async def test_what_is_not_signed_by_stripe_is_refused(shop: Shop, signature: str) -> None:
    headers = {b"stripe-signature": signature.encode("latin-1")}
    path = "/billing/stripe/webhook"
    answer = await shop.billing.public.post(path, content=BODY, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_webhook_signature")
    assert answer.json()["status"] == 400


async def test_a_signature_is_needed_and_one_only(shop: Shop) -> None:
    path = "/billing/stripe/webhook"
    assert (await shop.billing.public.post(path, content=BODY)).status_code == 400
    twice = [("stripe-signature", signed(BODY)), ("stripe-signature", signed(BODY))]
    answer = await shop.billing.public.post(path, content=BODY, headers=twice)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        b'{"id": "evt_1", "object": "event", "type": "coupon.created", "created": 1, "data": {}}',
        b'{"type": ["invoice.paid"]}',
        b'{"id": "evt_2", "type": "invoice.paid", "created": "x", "data": {"object": {}}}',
        b'{"id": "evt_3", "type": "customer.subscription.updated", "created": 1, "data":'
        b' {"object": {"id": "sub_1", "customer": "cus_1", "items": {"data": []}}}}',
        b'{"id": "evt_4", "type": "invoice.paid", "created": 1e400, "data": {"object": 7}}',
        b'{"id": "evt_5", "type": "checkout.session.completed", "created": 1, "data": {"object":'
        b' {"id": "cs", "mode": "subscription", "payment_status": "paid", "customer": "cus_9",'
        b' "subscription": "sub_9", "client_reference_id": "nobody"}}}',
    ],
)
async def test_what_stripe_signed_and_means_nothing_to_us_is_acknowledged(
    shop: Shop, body: bytes
) -> None:
    assert (await shop.deliver(body)).json() == {"received": True}


@pytest.mark.parametrize("body", [b"", b"[]", b"nope", b"\xff\xfe", b"[" * 100_000])
async def test_what_is_no_event_is_no_mistake_of_ours(shop: Shop, body: bytes) -> None:
    assert (await shop.deliver(body)).status_code == 400


async def test_a_secret_is_exchanged_while_both_are_good(shop: Shop) -> None:
    body = shop.stripe.emit("coupon.created", {"id": "co_1", "object": "coupon"})
    assert (await shop.deliver(body, signed(body, OLD_SECRET))).status_code == 200


async def test_without_a_provider_there_is_no_webhook(billing: Billing) -> None:
    headers = {"stripe-signature": signed(BODY)}
    path = "/billing/stripe/webhook"
    answer = await billing.public.post(path, content=BODY, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "webhooks_not_offered")


async def test_no_secret_is_shown_by_settings(shop: Shop) -> None:
    shown = repr(shop.billing.settings) + str(shop.billing.settings)
    assert not {KEY, SECRET, OLD_SECRET} & set(shown.replace("'", " ").split())
    assert "loopback" not in shown and "whsec" not in shown
