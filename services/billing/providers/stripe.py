"""Stripe's wire: checkout, customer portal, subscriptions, signed webhooks and the list of events.

Stripe collects; which tier somebody has, billing decides. The official package is imported when it
is first needed: processes that never speak to Stripe don't wait for it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import structlog

from services.billing.domain.errors import (
    BadWebhookSignature,
    PaymentDeclined,
    PaymentsUnavailable,
)
from services.billing.domain.payment import (
    Checkout,
    News,
    NewsKind,
    Payer,
    Payment,
    PaymentId,
    Wish,
)
from shared.ids import uuid7
from shared.values import dataclass

if TYPE_CHECKING:
    import stripe

log = structlog.get_logger(__name__)
T = TypeVar("T")

TOLERANCE_SECONDS = 300
_TIMEOUT_SECONDS = 10
_RETRIES = 2
_PAGE = 100
# How far back the first look goes, and one that has to begin anew: Stripe keeps events for thirty
# days.
_FIRST_LOOK = timedelta(days=3)
_ALL_THERE_IS = timedelta(days=30)
_MICROUSD_PER_CENT = 10_000
_CURRENCY = "usd"
# The invoice of a new period; those of a first purchase and of a change belong to their orders.
_RENEWAL = "subscription_cycle"

KINDS: Mapping[str, NewsKind] = {
    "checkout.session.completed": NewsKind.ORDER_PAID,
    "checkout.session.async_payment_succeeded": NewsKind.ORDER_PAID,
    "customer.subscription.created": NewsKind.PAYER_CHANGED,
    "customer.subscription.updated": NewsKind.PAYER_CHANGED,
    "customer.subscription.deleted": NewsKind.PAYER_ENDED,
    "invoice.paid": NewsKind.INVOICE_PAID,
    "invoice.payment_failed": NewsKind.INVOICE_FAILED,
    "charge.refunded": NewsKind.REFUNDED,
    # A dispute may begin as an inquiry, which moves no money.
    "charge.dispute.funds_withdrawn": NewsKind.DISPUTED,
    "charge.dispute.funds_reinstated": NewsKind.REINSTATED,
}
"""What of Stripe's many events means something to us."""
# Listed as before, since the place in the list up to which we have read may be one of these.
_LISTED = (*KINDS, "charge.dispute.created")


@dataclass(frozen=True, slots=True)
class StripeAccount:
    """How to reach the operator's account there, and how its prices are called by tier."""

    api_key: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)
    prices: Mapping[str, str]
    return_url: str
    api_base: str = "https://api.stripe.com"


class StripePayments:
    """Collects through Stripe's subscriptions. Each call may be made again: it carries a key by
    which Stripe does it once, or says the same as before."""

    name = "stripe"
    asks_first = True
    has_checkout = True

    def __init__(self, account: StripeAccount, client: stripe.StripeClient) -> None:
        self._account = account
        self._api = client.v1
        self._tiers = {price: tier for tier, price in account.prices.items()}

    async def checkout(self, order: Payment, payer: Payer | None) -> Checkout:
        about = {"order": str(order.id), "holder": str(order.holder)}
        price = self._price(order.tier_name)
        wish: dict[str, Any] = {
            "mode": "subscription",
            "client_reference_id": str(order.id),
            "line_items": [{"price": price, "quantity": order.seats or 1}],
            "success_url": self._account.return_url,
            "cancel_url": self._account.return_url,
            "metadata": about,
            "subscription_data": {"metadata": {"holder": str(order.holder)}},
        }
        if payer is not None and payer.provider == self.name:
            wish["customer"] = payer.customer
        made = await _asked(
            self._api.checkout.sessions.create_async(
                wish,  # type: ignore[arg-type]  # a TypedDict of a thousand keys
                # With the price: one that was put right is asked for anew.
                {"idempotency_key": f"checkout/{order.id}/{price}"},
            )
        )
        if made.currency not in (None, _CURRENCY):
            # Its cents would be counted as dollars'. Nobody gets to see the page.
            log.error(
                "stripe_price_of_other_currency", tier=order.tier_name, currency=made.currency
            )
            raise PaymentsUnavailable
        if made.url is None:
            raise PaymentsUnavailable
        return Checkout(url=made.url, reference=made.id)

    async def withdraw(self, order: Payment) -> None:
        import stripe

        # One that was completed or has expired can't expire any more, and need not.
        with suppress(stripe.InvalidRequestError), _translated(but=stripe.InvalidRequestError):
            await self._api.checkout.sessions.expire_async(
                order.reference or "", {}, {"idempotency_key": f"expire/{order.id}"}
            )

    async def collect_change(self, order: Payment, payer: Payer) -> None:
        await self._update(
            payer,
            Wish(order.tier_name or "", order.seats or 1, ending=False),
            key=f"change/{order.id}",
            # Invoiced and paid at once, or not changed at all.
            proration_behavior="always_invoice",
            payment_behavior="error_if_incomplete",
            metadata={"order": str(order.id)},
        )

    async def tell(self, payer: Payer, wish: Wish) -> None:
        if wish.ended:
            await self._cancel(payer)
            return
        # No lasting key: the same wish may come back after another one, and then counts anew.
        key = str(uuid7())
        if wish.ending:
            # Its terms may be none that are sold any more.
            await self._change(payer, {"cancel_at_period_end": True}, key)
            return
        await self._update(payer, wish, key=key, proration_behavior="none")

    async def collect_again(self, payer: Payer, attempt: str) -> None:
        wish = {"subscription": payer.subscription or "", "status": "open", "limit": 1}
        waiting = await _asked(
            self._api.invoices.list_async(wish)  # type: ignore[arg-type]
        )
        for invoice in waiting.data:
            key = f"pay/{invoice.id}/{attempt}"
            await _asked(
                self._api.invoices.pay_async(str(invoice.id), {}, {"idempotency_key": key})
            )

    async def portal(self, payer: Payer) -> str:
        made = await _asked(
            self._api.billing_portal.sessions.create_async(
                {"customer": payer.customer, "return_url": self._account.return_url},
                {"idempotency_key": str(uuid7())},
            )
        )
        return made.url

    async def news_since(
        self, cursor: str | None
    ) -> AsyncIterator[tuple[str, datetime, News | None]]:
        pages = self._pages_since(_FIRST_LOOK)
        if cursor is not None:
            is_known = await self._still_lists(cursor)
            pages = self._pages_after(cursor) if is_known else self._pages_since(_ALL_THERE_IS)
        async for page in pages:
            for event in page:
                yield event["id"], _moment(event["created"]), await self.news_of(event)

    async def read(self, body: bytes, signature: str | None) -> News | None:
        return await self.news_of(self.verified(body, signature))

    def verified(self, body: bytes, signature: str | None) -> Mapping[str, Any]:
        """The event that Stripe signed, with any of the secrets. Raises BadWebhookSignature."""
        import stripe

        for secret in self._account.webhook_secrets:
            # A signature is hex; anything beyond ASCII is none, and can't be compared.
            if not (signature or "").isascii():
                break
            try:
                stripe.WebhookSignature.verify_header(body, signature, secret, TOLERANCE_SECONDS)
                event = json.loads(body)
            except (stripe.SignatureVerificationError, ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                return event
        raise BadWebhookSignature

    async def news_of(self, event: Mapping[str, Any]) -> News | None:
        """An event in our words; None for one that means nothing to us, or lacks what it needs."""
        kind = KINDS.get(str(event.get("type")))
        if kind is None:
            return None
        try:
            about = event["data"]["object"]
            facts = _FACTS[kind](about)
            if facts is None:
                return None
            if kind in (NewsKind.DISPUTED, NewsKind.REINSTATED):
                facts["customer"] = await self._customer_of(about["charge"])
            price = facts.pop("price", None)
            return News(
                provider=self.name,
                event_id=str(event["id"]),
                kind=kind,
                happened_at=_moment(event["created"]),
                tier_name=self._tiers.get(price) if price else None,
                **facts,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError):
            log.warning("stripe_event_not_understood", type=kind.value)
            return None

    async def _customer_of(self, charge: str | Mapping[str, Any]) -> str | None:
        if not isinstance(charge, str):
            return _id(charge.get("customer"))
        found = await _asked(self._api.charges.retrieve_async(charge))
        return _id(found.customer)

    async def _update(self, payer: Payer, wish: Wish, *, key: str, **how: Any) -> None:
        item = payer.item or await self._item_of(payer)
        change = {
            "items": [
                {"id": item, "price": self._price(wish.tier_name), "quantity": wish.seats},
            ],
            "cancel_at_period_end": wish.ending,
            **how,
        }
        await self._change(payer, change, key)

    async def _change(self, payer: Payer, change: Mapping[str, Any], key: str) -> None:
        await _asked(
            self._api.subscriptions.update_async(
                payer.subscription or "",
                change,  # type: ignore[arg-type]
                {"idempotency_key": key},
            )
        )

    async def _item_of(self, payer: Payer) -> str:
        found = await _asked(self._api.subscriptions.retrieve_async(payer.subscription or ""))
        return str(found["items"]["data"][0]["id"])

    async def _cancel(self, payer: Payer) -> None:
        import stripe

        try:
            with _translated(but=stripe.InvalidRequestError):
                await self._api.subscriptions.cancel_async(payer.subscription or "")
        except stripe.InvalidRequestError as error:
            if error.code != "resource_missing":
                raise _refused(error) from error

    def _price(self, tier_name: str | None) -> str:
        price = self._account.prices.get(tier_name or "")
        if price is None:
            log.error("stripe_has_no_price", tier=tier_name)
            raise PaymentsUnavailable
        return price

    async def _pages_after(self, cursor: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """Page by page towards now, each the oldest first."""
        more = True
        while more:
            page = await self._events(ending_before=cursor)
            events = _plain(page)
            yield events
            more = page.has_more and bool(events)
            cursor = str(events[-1]["id"]) if events else cursor

    async def _still_lists(self, event_id: str) -> bool:
        """False for one that is older than what is kept there: nothing has happened for long."""
        import stripe

        try:
            with _translated(but=stripe.InvalidRequestError):
                await self._api.events.retrieve_async(event_id)
        except stripe.InvalidRequestError as error:
            if error.code == "resource_missing":
                return False
            raise _refused(error) from error
        return True

    async def _pages_since(self, span: timedelta) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        since = int((datetime.now(UTC) - span).timestamp())
        before = _plain(await self._events(created={"lt": since}, limit=1))
        if before:
            async for page in self._pages_after(str(before[0]["id"])):
                yield page
            return
        # Nothing is older: the account's first days, few enough to hold at once.
        found: list[Mapping[str, Any]] = []
        where: dict[str, Any] = {}
        while True:
            newer = await self._events(created={"gte": since}, **where)
            events = _plain(newer)
            found = [*events, *found]
            if not newer.has_more or not events:
                break
            where = {"starting_after": str(events[0]["id"])}
        yield found

    async def _events(self, **where: Any) -> stripe.ListObject[stripe.Event]:
        wish = {"limit": _PAGE, "types": list(_LISTED), **where}
        return await _asked(self._api.events.list_async(wish))  # type: ignore[arg-type]


@asynccontextmanager
async def open_stripe(account: StripeAccount) -> AsyncIterator[StripePayments]:
    """A client of its own: nothing of it is global."""
    import stripe

    transport = stripe.HTTPXClient(timeout=_TIMEOUT_SECONDS)
    client = stripe.StripeClient(
        account.api_key,
        base_addresses={"api": account.api_base},
        http_client=transport,
        max_network_retries=_RETRIES,
    )
    try:
        yield StripePayments(account, client)
    finally:
        await transport.close_async()  # type: ignore[no-untyped-call]


async def _asked(call: Awaitable[T]) -> T:
    with _translated():
        return await call


@contextmanager
def _translated(but: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Stripe's failures as ours. Raises PaymentDeclined or PaymentsUnavailable."""
    import stripe

    try:
        yield
    except but:
        raise
    except stripe.CardError as error:
        raise PaymentDeclined from error
    except stripe.StripeError as error:
        raise _refused(error) from error


def _refused(error: stripe.StripeError) -> PaymentsUnavailable:
    # Its message may name an account or a key's end.
    log.error(
        "stripe_call_failed",
        kind=type(error).__name__,
        code=error.code,
        status=error.http_status,
        stripe_request_id=error.request_id,
    )
    return PaymentsUnavailable()


def _plain(page: stripe.ListObject[stripe.Event]) -> list[Mapping[str, Any]]:
    """Stripe lists the newest first; we want the oldest first."""
    return [event.to_dict() for event in reversed(page.data)]


def _moment(seconds: Any) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _id(value: Any) -> str | None:
    """An id, or that of an object in its place."""
    if isinstance(value, Mapping):
        return str(value["id"])
    return str(value) if value else None


def _microusd(cents: Any) -> int:
    return int(cents or 0) * _MICROUSD_PER_CENT


def _order_id(text: Any) -> PaymentId | None:
    try:
        return PaymentId(UUID(str(text)))
    except ValueError:
        return None


def _session(about: Any) -> dict[str, Any] | None:
    # Some ways of paying take days: then a later event says that it was paid.
    if about["mode"] != "subscription" or about["payment_status"] == "unpaid":
        return None
    return {
        "customer": _id(about["customer"]),
        "subscription": _id(about["subscription"]),
        "order_id": _order_id(about.get("client_reference_id")),
        "reference": str(about["id"]),
        "amount_microusd": _microusd(about.get("amount_total")),
    }


def _subscription(about: Any) -> dict[str, Any]:
    item = about["items"]["data"][0]
    return {
        "customer": _id(about["customer"]),
        "subscription": str(about["id"]),
        "item": str(item["id"]),
        "price": _id(item["price"]),
        "seats": int(item.get("quantity") or 1),
        "ending": bool(about.get("cancel_at_period_end") or about.get("cancel_at")),
        "is_overdue": about.get("status") in ("past_due", "unpaid"),
        "order_id": _order_id((about.get("metadata") or {}).get("order")),
    }


def _invoice(about: Any) -> dict[str, Any]:
    parent = about.get("parent") or {}
    details = parent.get("subscription_details") or {}
    return {
        "customer": _id(about["customer"]),
        # Until 2025 it stood on the invoice itself, and old endpoints still get it there.
        "subscription": _id(details.get("subscription") or about.get("subscription")),
        "reference": str(about["id"]),
        "amount_microusd": _microusd(about.get("amount_paid")),
        "is_renewal": about.get("billing_reason") == _RENEWAL,
        # Those of the subscription when the invoice was made.
        "order_id": _order_id((details.get("metadata") or {}).get("order")),
    }


def _refund(about: Any) -> dict[str, Any]:
    return {
        "customer": _id(about["customer"]),
        "reference": str(about["id"]),
        "amount_microusd": _microusd(about["amount_refunded"]),
        "is_whole": about.get("amount") in (None, about["amount_refunded"]),
    }


def _dispute(about: Any) -> dict[str, Any]:
    return {"reference": str(about["id"]), "amount_microusd": _microusd(about["amount"])}


def _won(about: Any) -> dict[str, Any]:
    return {"reference": str(about["id"]), "amount_microusd": 0}


_FACTS: Mapping[NewsKind, Any] = {
    NewsKind.ORDER_PAID: _session,
    NewsKind.PAYER_CHANGED: _subscription,
    NewsKind.PAYER_ENDED: _subscription,
    NewsKind.INVOICE_PAID: _invoice,
    NewsKind.INVOICE_FAILED: _invoice,
    NewsKind.REFUNDED: _refund,
    NewsKind.DISPUTED: _dispute,
    NewsKind.REINSTATED: _won,
}
