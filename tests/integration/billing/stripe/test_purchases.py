"""What is bought by Stripe: the checkout, and changes that are collected at once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from services.billing.actions.change_subscription import Wanted
from services.billing.domain.errors import PaymentSettled, PaymentsUnavailable
from services.billing.domain.payment import Payer, Payment, PaymentId
from services.billing.domain.ports import Payments
from services.billing.domain.subscription import Holder
from shared.ids import UserId
from tests.integration.billing.stripe.conftest import STAFF, Shop

# Stripe's package gives httpx its forms in a way that httpx would rather not have.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


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


async def test_nothing_is_sold_at_a_price_in_another_currency(shop: Shop) -> None:
    """Its cents would be counted as dollars'."""
    shop.stripe.currency = "eur"
    refused = await shop.choose("pro")
    assert (refused.status_code, refused.json()["code"]) == (503, "payments_unavailable")
    assert "checkout_url" not in refused.json()
    shop.stripe.currency = "usd"
    # The order stays, and Stripe says again under its key what it has said.
    assert (await shop.choose("pro")).status_code == 503
    assert (await shop.choose("enterprise", 1)).status_code == 202


async def test_a_webhook_that_is_lost_is_found_in_stripes_own_list(shop: Shop) -> None:
    shop.stripe.complete(await shop.checkout("pro"))
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
    refused = await shop.choose_unheard("enterprise", 5)
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
    await shop.choose_unheard("enterprise", 5)
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
    await shop.choose_unheard("enterprise", 3)
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
    shop.clock.forward(datetime.now(UTC) - shop.clock.now())
    change = shop.actions.change_subscription
    change = replace(change, payments=SlowAnswers(change.payments, shop))
    ada = UserId(shop.ada)
    outcome = await change(Holder(ada), Wanted("enterprise", 5), by=ada)
    assert (outcome.subscription.seats, outcome.charges) == (5, ())
    assert len(await shop.charges()) == 3


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
    bodies = shop.stripe.complete(await shop.checkout("pro"))
    answers = await asyncio.gather(*(shop.deliver(body) for body in bodies * 4))
    assert {answer.status_code for answer in answers} == {200}
    assert await shop.charges() == [("period_fee", 9_000_000)]


async def test_another_choice_closes_the_page_of_the_one_before(shop: Shop) -> None:
    first = await shop.checkout("pro")
    second = await shop.checkout("enterprise", 2)
    assert shop.stripe.sessions[first]["status"] == "expired"
    assert shop.stripe.sessions[second]["status"] == "open"
    # Nobody was told to transfer anything for it, and its page may have been faster.
    rows = await shop.billing.database.fetch(
        "select id from payment where holder_id = $1 order by id", shop.ada
    )
    closed, waiting = (PaymentId(row["id"]) for row in rows)
    listed = await shop.actions.list_unpaid_orders(UserId(shop.ada), before=None, most=10)
    assert [one.order.id for one in listed] == [waiting]
    with pytest.raises(PaymentSettled):
        await shop.actions.mark_paid(closed, by=STAFF)
