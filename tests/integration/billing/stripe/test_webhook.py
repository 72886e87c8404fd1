"""What comes in from Stripe: its signatures, its order, and its list where a webhook was lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from services.billing.settings import Settings
from services.billing.wiring import open_payments
from tests.integration.billing.harness import Billing
from tests.integration.billing.stripe.conftest import Shop
from tests.support.stripe_stand_in import (
    KEY,
    OLD_SECRET,
    PRICES,
    SECRET,
    StandInStripe,
    signed,
)
from tests.support.tokens import serving

# Stripe's package gives httpx its forms in a way that httpx would rather not have.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


async def test_events_in_the_wrong_order_end_at_the_same(shop: Shop) -> None:
    bodies = shop.stripe.complete(await shop.checkout("pro"))
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
