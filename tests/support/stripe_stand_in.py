"""Stripe on loopback, as far as billing speaks to it: the documented paths, forms and bodies, its
idempotency and its signatures."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import parse_qsl

KEY = "rk_test_" + "loopback"
SECRET, OLD_SECRET = "whsec_" + "present", "whsec_" + "former"
PRICES = {"pro": "price_pro", "enterprise": "price_team"}
VERSION = "2026-10-28.endive"
CENTS = {"price_pro": 900, "price_team": 1500}

Answer = tuple[int, dict[str, Any]]


def signed(body: bytes, secret: str = SECRET, *, at: float | None = None) -> str:
    """The `Stripe-Signature` of a body (https://docs.stripe.com/webhooks#verify-manually)."""
    moment = int(time.time() if at is None else at)
    mac = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={mac}"


@dataclass
class StandInStripe:
    """One account. `declines`: its customers' cards are refused. `down`: it answers 500.
    `loses_answers`: it does what it is told, and nobody hears of it. `currency`: of its prices."""

    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    subscriptions: dict[str, dict[str, Any]] = field(default_factory=dict)
    invoices: dict[str, dict[str, Any]] = field(default_factory=dict)
    charges: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    replays: int = 0
    declines: bool = False
    down: bool = False
    loses_answers: bool = False
    currency: str = "usd"
    refuses: str | None = None  # a subscription that can't be changed, such as one under a schedule
    _answers: dict[str, tuple[dict[str, str], Answer]] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):06d}"

    # What happens at Stripe

    def emit(self, type_: str, about: dict[str, Any], *, created: int | None = None) -> bytes:
        """A new event; answers the body that would be delivered."""
        event = {
            "id": self.new_id("evt"),
            "object": "event",
            "api_version": VERSION,
            "created": int(time.time()) if created is None else created,
            "data": {"object": json.loads(json.dumps(about))},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": type_,
        }
        self.events.append(event)
        # As Stripe writes it: with spaces, and not as we would.
        return json.dumps(event, indent=2).encode()

    def complete(self, session_id: str) -> list[bytes]:
        """Somebody pays at a checkout page."""
        session = self.sessions[session_id]
        customer = session["customer"] or self.new_id("cus")
        item = {
            "id": self.new_id("si"),
            "object": "subscription_item",
            "price": {"id": session["_price"], "object": "price", "currency": "usd"},
            "quantity": session["_quantity"],
            "current_period_end": int(time.time()) + 30 * 86_400,
        }
        subscription = {
            "id": self.new_id("sub"),
            "object": "subscription",
            "customer": customer,
            "status": "active",
            "cancel_at_period_end": False,
            "cancel_at": None,
            "items": {"object": "list", "data": [item], "has_more": False},
            "metadata": session["_subscription_metadata"],
        }
        self.subscriptions[subscription["id"]] = subscription
        session |= {
            "customer": customer,
            "subscription": subscription["id"],
            "status": "complete",
            "payment_status": "paid",
        }
        invoice = self.an_invoice(subscription, reason="subscription_create", paid=True)
        return [
            self.emit("customer.subscription.created", subscription),
            self.emit("invoice.paid", invoice),
            self.emit("checkout.session.completed", session),
        ]

    def an_invoice(
        self, subscription: dict[str, Any], *, reason: str = "subscription_cycle", paid: bool
    ) -> dict[str, Any]:
        item = subscription["items"]["data"][0]
        cents = CENTS[item["price"]["id"]] * item["quantity"]
        invoice = {
            "id": self.new_id("in"),
            "object": "invoice",
            "customer": subscription["customer"],
            "status": "paid" if paid else "open",
            "billing_reason": reason,
            "currency": "usd",
            "amount_due": cents,
            "amount_paid": cents if paid else 0,
            "parent": {
                "type": "subscription_details",
                "subscription_details": {
                    "subscription": subscription["id"],
                    # As it was when the invoice was made.
                    "metadata": dict(subscription["metadata"]),
                },
            },
        }
        self.invoices[invoice["id"]] = invoice
        return invoice

    # Its API

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode()))
        form = {**query, **dict(parse_qsl(body.decode(), keep_blank_values=True))}
        status, answer = self._answer(scope["method"], scope["path"], headers, form)
        if self.loses_answers and scope["method"] == "POST":
            return
        start = [(b"content-type", b"application/json"), (b"request-id", b"req_loopback")]
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _answer(
        self, method: str, path: str, headers: dict[str, str], form: dict[str, str]
    ) -> Answer:
        self.calls.append((method, path, form))
        if headers.get("authorization") != f"Bearer {KEY}":
            return _error(401, "invalid_request_error", "Invalid API Key provided")
        if headers.get("stripe-version") != VERSION:
            return _error(400, "invalid_request_error", "another version was pinned")
        if self.down:
            return _error(500, "api_error", "try again")
        key = headers.get("idempotency-key")
        if method == "POST":
            if key is None or headers["content-type"] != "application/x-www-form-urlencoded":
                return _error(400, "invalid_request_error", "no Idempotency-Key, or no form")
            if key in self._answers:
                known, answer = self._answers[key]
                if known != form:
                    return _error(400, "idempotency_error", "another request had this key")
                self.replays += 1
                return answer
        answer = self._routed(method, path, form)
        if method == "POST" and key is not None:
            self._answers[key] = (form, answer)
        return answer

    def _routed(self, method: str, path: str, form: dict[str, str]) -> Answer:
        routes: list[tuple[str, str, Callable[..., Answer]]] = [
            ("POST", "/v1/checkout/sessions", self._checkout),
            ("POST", "/v1/checkout/sessions/([^/]+)/expire", self._expire),
            ("POST", "/v1/billing_portal/sessions", self._portal),
            ("GET", "/v1/subscriptions/([^/]+)", self._subscription),
            ("POST", "/v1/subscriptions/([^/]+)", self._update),
            ("DELETE", "/v1/subscriptions/([^/]+)", self._cancel),
            ("GET", "/v1/invoices", self._open_invoices),
            ("POST", "/v1/invoices/([^/]+)/pay", self._pay),
            ("GET", "/v1/charges/([^/]+)", self._charge),
            ("GET", "/v1/events", self._events),
            ("GET", "/v1/events/([^/]+)", self._event),
        ]
        for wanted, pattern, handler in routes:
            found = re.fullmatch(pattern, path)
            if method == wanted and found:
                return handler(form, *found.groups())
        return _error(404, "invalid_request_error", "Unrecognized request URL")

    def _checkout(self, form: dict[str, str]) -> Answer:
        assert form["mode"] == "subscription"
        assert form["line_items[0][price]"] in CENTS
        id_ = self.new_id("cs_test")
        quantity = int(form["line_items[0][quantity]"])
        self.sessions[id_] = {
            "id": id_,
            "object": "checkout.session",
            "mode": "subscription",
            "url": f"https://checkout.stripe.example/c/pay/{id_}",
            "client_reference_id": form["client_reference_id"],
            "customer": form.get("customer"),
            "subscription": None,
            "payment_status": "unpaid",
            "status": "open",
            "amount_total": CENTS[form["line_items[0][price]"]] * quantity,
            "currency": self.currency,
            "metadata": {"order": form["metadata[order]"]},
            "_price": form["line_items[0][price]"],
            "_quantity": quantity,
            "_subscription_metadata": {"holder": form["subscription_data[metadata][holder]"]},
        }
        return 200, self.sessions[id_]

    def _expire(self, _form: dict[str, str], id_: str) -> Answer:
        session = self.sessions[id_]
        if session["status"] != "open":
            return _error(400, "invalid_request_error", "Only open sessions can be expired.")
        session |= {"status": "expired", "url": None}
        return 200, session

    def _portal(self, form: dict[str, str]) -> Answer:
        url = f"https://billing.stripe.example/p/session/{form['customer']}"
        return 200, {"id": "bps_1", "object": "billing_portal.session", "url": url}

    def _subscription(self, _form: dict[str, str], id_: str) -> Answer:
        return (200, self.subscriptions[id_]) if id_ in self.subscriptions else _missing()

    def _update(self, form: dict[str, str], id_: str) -> Answer:
        found = self.subscriptions.get(id_)
        if found is None:
            return _missing()
        if id_ == self.refuses:
            return _error(400, "invalid_request_error", "It is managed by a schedule.")
        if set(form) == {"cancel_at_period_end"}:
            found["cancel_at_period_end"] = form["cancel_at_period_end"] == "true"
            self.emit("customer.subscription.updated", found)
            return 200, found
        item = found["items"]["data"][0]
        assert form["items[0][id]"] == item["id"]
        if form["proration_behavior"] == "always_invoice":
            assert form["payment_behavior"] == "error_if_incomplete"
            if self.declines:
                return _error(402, "card_error", "Your card was declined.", code="card_declined")
        item["price"]["id"] = form["items[0][price]"]
        item["quantity"] = int(form["items[0][quantity]"])
        found["cancel_at_period_end"] = form["cancel_at_period_end"] == "true"
        if "metadata[order]" in form:
            found["metadata"]["order"] = form["metadata[order]"]
        self.emit("customer.subscription.updated", found)
        return 200, found

    def _cancel(self, _form: dict[str, str], id_: str) -> Answer:
        found = self.subscriptions.pop(id_, None)
        if found is None:
            return _missing()
        found["status"] = "canceled"
        self.emit("customer.subscription.deleted", found)
        return 200, found

    def _open_invoices(self, form: dict[str, str]) -> Answer:
        def fits(invoice: dict[str, Any]) -> bool:
            of = invoice["parent"]["subscription_details"]["subscription"]
            return bool(of == form["subscription"] and invoice["status"] == form["status"])

        return 200, _list([invoice for invoice in self.invoices.values() if fits(invoice)])

    def _pay(self, _form: dict[str, str], id_: str) -> Answer:
        invoice = self.invoices[id_]
        if self.declines:
            self.emit("invoice.payment_failed", invoice)
            return _error(402, "card_error", "Your card was declined.", code="card_declined")
        invoice |= {"status": "paid", "amount_paid": invoice["amount_due"]}
        self.emit("invoice.paid", invoice)
        return 200, invoice

    def _charge(self, _form: dict[str, str], id_: str) -> Answer:
        return (200, self.charges[id_]) if id_ in self.charges else _missing()

    def _event(self, _form: dict[str, str], id_: str) -> Answer:
        found = [event for event in self.events if event["id"] == id_]
        return (200, found[0]) if found else _missing()

    def _events(self, form: dict[str, str]) -> Answer:
        """https://docs.stripe.com/api/events/list: the newest first."""
        types = {value for name, value in form.items() if name.startswith("types")}
        found = [event for event in reversed(self.events) if event["type"] in types]
        if "created[lt]" in form:
            found = [event for event in found if event["created"] < int(form["created[lt]"])]
        if "created[gte]" in form:
            found = [event for event in found if event["created"] >= int(form["created[gte]"])]
        ids, most = [event["id"] for event in found], int(form["limit"])
        if "starting_after" in form:
            found = found[ids.index(form["starting_after"]) + 1 :]
        if "ending_before" in form:
            newer = found[: ids.index(form["ending_before"])]
            # The page next to the event that was named, and not the newest.
            return 200, _list(newer[-most:], has_more=len(newer) > most)
        return 200, _list(found[:most], has_more=len(found) > most)


def _list(data: list[dict[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    return {"object": "list", "url": "/v1/loopback", "has_more": has_more, "data": data}


def _missing() -> Answer:
    return _error(404, "invalid_request_error", "No such object", code="resource_missing")


def _error(status: int, type_: str, message: str, *, code: str | None = None) -> Answer:
    return status, {"error": {"type": type_, "message": message, "code": code}}
