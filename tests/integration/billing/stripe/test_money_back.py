"""What was paid twice or for nothing, and what goes back: refunds and disputes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from services.billing.domain.errors import PaymentsUnavailable
from tests.integration.billing.stripe.conftest import STAFF, Shop

# Stripe's package gives httpx its forms in a way that httpx would rather not have.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


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
    pages = [await shop.checkout(*wish) for wish in (("pro", None), ("enterprise", 2))]
    for page in pages:
        await shop.pay(page)
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
    shop.clock.forward(timedelta(minutes=2))
    await shop.actions.tell_payers()
    assert first not in shop.stripe.subscriptions
    assert second in shop.stripe.subscriptions


async def test_who_paid_twice_and_got_more_by_the_second_is_shown_to_the_billing_team(
    shop: Shop,
) -> None:
    pages = [await shop.checkout(*wish) for wish in (("pro", None), ("enterprise", 2))]
    with capture_logs() as said:
        for page in pages:
            await shop.pay(page)
    [shown] = await shop.unused()
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
    # A part of a larger payment that comes to the same.
    await arrive(6_000_000)
    await refund({**charges[1], "id": shop.stripe.new_id("ch"), "amount": 900}, 600)
    assert await waits()
    await arrive(8_000_000)
    await refund({**charges[1], "id": shop.stripe.new_id("ch"), "amount": 800}, 800)
    assert not await waits()


async def test_who_pays_twice_is_collected_from_once_and_shown_to_the_billing_team(
    shop: Shop,
) -> None:
    pages = [await shop.checkout(*wish) for wish in (("enterprise", 2), ("pro", None))]
    # Both were open in a browser, and were paid before anything could be closed.
    for page in pages:
        await shop.pay(page)
    assert (await shop.state())["tier"] == "enterprise"
    kept, spare = (shop.stripe.sessions[page]["subscription"] for page in pages)
    await shop.actions.tell_payers()
    assert kept in shop.stripe.subscriptions
    assert spare not in shop.stripe.subscriptions
    assert await shop.unused()
    assert await shop.charges() == [("period_fee", 30_000_000)]


@pytest.mark.parametrize("has_another", [False, True])
async def test_what_is_paid_by_hand_and_at_its_checkout_is_booked_twice(
    shop: Shop, has_another: bool
) -> None:
    page = await shop.checkout("enterprise", 2)
    [order] = await shop.billing.database.fetch(
        "select id from payment where holder_id = $1", shop.ada
    )
    shop.clock.forward(datetime.now(UTC) - shop.clock.now())
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
        await shop.pay(page)
        # Told once more, as another event.
        session = shop.stripe.sessions[page]
        await shop.deliver(shop.stripe.emit("checkout.session.async_payment_succeeded", session))
    assert await shop.payments() == [
        ("order", "paid", 36_000_000),
        ("order", "unused", 30_000_000),
    ]
    assert (await shop.billing.get("balance", shop.ada)).json()["paid_microusd"] == 66_000_000
    [shown] = await shop.unused()
    assert (shown["provider"], shown["reference"]) == ("stripe", page)
    [line] = [line for line in said if line["event"] == "paid_twice"]
    assert (line["holder"], line["payment"]) == (str(shop.ada), shown["payment_id"])
    assert await shop.charges() == [("period_fee", 30_000_000)]
    # Given back at Stripe, it waits for the billing team no longer.
    charge = {"id": shop.stripe.new_id("ch"), "object": "charge", "amount_refunded": 3_000}
    customer = f"other_{shop.ada}" if has_another else session["customer"]
    await shop.deliver(shop.stripe.emit("charge.refunded", {**charge, "customer": customer}))
    assert ("order", "unused", 30_000_000) not in await shop.payments()
    # Stripe never heard of the other one: no test after this may tell it what became of them.
    await shop.billing.database.execute("delete from payer where holder_id = $1", shop.ada)


async def test_a_change_that_was_paid_by_hand_and_is_collected_all_the_same_is_booked_twice(
    shop: Shop,
) -> None:
    subscription = await shop.buy("enterprise", 2)
    # Neither the answer comes nor the event.
    await shop.choose_unheard("enterprise", 4)
    [order] = await shop.billing.database.fetch(
        "select id from payment where holder_id = $1 and state = 'open'", shop.ada
    )
    shop.clock.forward(datetime.now(UTC) - shop.clock.now())
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
