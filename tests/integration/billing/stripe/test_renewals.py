"""What Stripe renews, fails to collect or ends, and what it is told of an end."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from services.billing.domain.errors import PaymentsUnavailable
from shared.erasure import ErasureId
from shared.ids import UserId
from tests.integration.billing.stripe.conftest import Shop

# Stripe's package gives httpx its forms in a way that httpx would rather not have.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


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
    shop.clock.forward(timedelta(minutes=2))
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
