"""Every door of billing by its own description: whatever is sent to it, the answer is one that the
description names, and never a mistake of ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio

from services.billing.api import webhooks
from services.billing.api.routes import routers
from services.billing.domain.closing import Month
from services.billing.domain.ports import NewUnitOfWork
from services.billing.settings import Settings
from services.billing.wiring import Wired
from shared.clock import SystemClock
from shared.db.database import Database
from shared.http.app import create_http_app
from shared.http.pages import cursor_of
from shared.ids import UserId
from shared.scopes import BILLING_READ
from tests.integration.billing.harness import actions_on
from tests.support.billing import FixedOrganisations
from tests.support.billing_invoices import Books, a_charge
from tests.support.openapi import Operation, operations
from tests.support.tokens import TokenMint
from tests.support.webhook_receiver import write_webhook_keys

AT = datetime(2020, 7, 10, tzinfo=UTC)
HOOK = "https://hooks.example.com/"
PROBLEM = "application/problem+json"
NOBODY = str(UUID(int=0))
TEXTS = ("\x00", "x" * 600, "0001-01-01T00:00:00+14:00", "9999-12")
MOMENTS = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
CURSORS = tuple(
    cursor_of(*parts)
    for one in ("\x00", NOBODY, *MOMENTS, "9999-12")
    for parts in ((one,), (one, NOBODY))
)
ACCEPTED = (b";;,,\x80", b"application/json;q=0", b"*/*;q=0,text/*")
BODIES = (b"[" * 5_000, b'{"url": "\\ud800", "reason": "\\ud800"}')
KEYED = ("credit-notes", "adjustments")
OFTEN = {"idempotency-key": "often"}


@dataclass
class Doors:
    """The running application with something of everything in its books."""

    client: httpx.AsyncClient
    mint: TokenMint
    ada: UUID  # of the billing team, and a customer
    ids: Mapping[str, str]
    complaints: set[str] = field(default_factory=set)

    async def ask(
        self, operation: Operation, path: str, *, headers: Mapping[str, Any] = OFTEN, **sent: Any
    ) -> None:
        signed = {**self.mint.headers(self.ada, role="billing"), **headers}
        try:
            answer = await self.client.request(operation.method, path, headers=signed, **sent)
        except httpx.InvalidURL:
            return  # no client can send this
        for complaint in complaints_about(operation, answer):
            self.complaints.add(f"{operation} {complaint}: {path[:80]} {str(sent)[:120]}")

    def path_of(self, operation: Operation, **others: str) -> str:
        return operation.path.format_map({**self.ids, **others})


def complaints_about(operation: Operation, answer: httpx.Response) -> Iterator[str]:
    """How an answer is another than the description says."""
    stated = operation.about["responses"].get(str(answer.status_code))
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if stated is None:
        yield f"{answer.status_code} is not stated"
    elif answer.content and kind not in stated.get("content", {}):
        yield f"{answer.status_code} as {kind} is not stated"
    if kind == PROBLEM:
        missing = {"type", "title", "status", "detail", "code", "request_id"} - set(answer.json())
        if missing:
            yield f"is a problem without {missing}"


class DecidesAboutKeys(FixedOrganisations):
    """Everybody decides about every organisation's keys, and about nothing else."""

    async def may_manage_keys(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        return True


@pytest_asyncio.fixture
async def doors(
    work: NewUnitOfWork,
    database: Database,
    settings: Callable[..., Settings],
    mint: TokenMint,
    engines: dict[str, str],
    tmp_path: Path,
) -> AsyncIterator[Doors]:
    here = settings(**engines, webhook_keys_file=write_webhook_keys(tmp_path / "keys.json"))
    actions = actions_on(work, here, SystemClock(), organisations=DecidesAboutKeys({}))

    @asynccontextmanager
    async def wired() -> AsyncIterator[Wired]:
        yield Wired(actions, database, {})

    process = create_http_app("billing", here, wire=wired, scope=BILLING_READ, routers=routers)
    transport = httpx.ASGITransport(process.public, raise_app_exceptions=False)
    async with (
        process.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://billing") as client,
    ):
        ada = uuid4()
        ids = await something_of_everything(client, mint, Books(actions, work), ada)
        yield Doors(client, mint, ada, ids)


async def something_of_everything(
    client: httpx.AsyncClient, mint: TokenMint, books: Books, ada: UUID
) -> Mapping[str, str]:
    """What paths name: an invoice, a credit note, a webhook, an export."""
    staff = mint.headers(ada, role="billing")

    async def made(path: str, body: Any = None) -> Any:
        headers = {**staff, "idempotency-key": "one"}
        answer = await client.post(f"/billing/{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    await books.charge(a_charge(ada, 15_000_000, at=AT))
    event_id = await books.use(ada, at=AT, tier="pro")
    await books.close(Month.named("2020-07"))
    await made("admin/invoices/run", {"month": "2020-07"})
    [head] = (await client.get("/billing/invoices", headers=staff)).json()["data"]
    invoice = (await client.get(f"/billing/invoices/{head['id']}", headers=staff)).json()
    line_id = invoice["lines"][0]["id"]
    credited = {"lines": [{"line_id": line_id, "amount_microusd": 1}], "reason": "A test."}
    note = await made(f"admin/invoices/{head['id']}/credit-notes", credited)
    webhook = await made("webhooks", {"url": HOOK})
    delivery = await made(f"webhooks/{webhook['id']}/test")
    asked = await made("admin/exports", {"from": "2020-07-01", "to": "2020-07-31"})
    return {
        "event_id": str(event_id),
        "invoice_id": head["id"],
        "line_id": line_id,
        "credit_note_id": note["id"],
        "webhook_id": webhook["id"],
        "delivery_id": delivery["id"],
        "export_id": asked["id"],
        "holder_id": str(ada),
        "holder": str(ada),
        "payment_id": NOBODY,
        "month": "2020-07",
        "organisation_id": str(UUID(int=7)),
    }


def good_bodies(ids: Mapping[str, str]) -> Mapping[str, Any]:
    """Bodies that would be taken, where the description alone doesn't tell one."""
    since = "2027-11-28T00:00:00Z"
    price = {"provider": "openai", "model": "m", "input_microusd_per_million": 1}
    hook = {"url": HOOK, "types": ["limit.reached"]}
    deltas = {"input_tokens": 1, "cost_microusd": 1}
    lines = [{"line_id": ids["line_id"], "amount_microusd": 1}]
    invoices = "/billing/admin/invoices"
    address = {"name": "N", "address_lines": ["A"], "city": "C", "country": "DE", "vat_id": None}
    return {
        "PUT /billing/subscription": {"tier": "pro", "seats": 1},
        "POST /billing/webhooks": hook,
        "POST /billing/admin/webhooks": {**hook, "usage_from_beginning": True},
        "PATCH /billing/webhooks/{webhook_id}": {**hook, "enabled": True},
        "POST /billing/webhooks/{webhook_id}/redeliver": {"since": since, "all": False},
        "PUT /billing/details": {**address, "email": "a@example.com", "purchase_order": "x"},
        "POST /billing/admin/prices": {**price, "effective_from": since, "rerate": False},
        "POST /billing/admin/prices/preview": {**price, "effective_from": since},
        "PUT /billing/admin/subscriptions/{holder_id}": {"tier": "enterprise", "seats": 2},
        "POST /billing/admin/exports": {"from": "2026-01-01", "to": since, "format": "csv"},
        "POST /billing/admin/plan-prices": {
            "tier": "pro",
            "microusd_per_seat_month": 1,
            "effective_from": since,
        },
        "POST /billing/admin/adjustments": {
            "event_id": ids["event_id"],
            "reason": "A test.",
            "deltas": deltas,
        },
        "POST /billing/admin/payments": {
            "holder_id": ids["holder_id"],
            "amount_cents": 1,
            "reference": "A transfer.",
            "note": "A test.",
        },
        "POST /billing/admin/periods/{month}/close": {"waive": {"reason": "For a test alone."}},
        f"POST {invoices}/run": {"month": "2020-07"},
        f"POST {invoices}/{{invoice_id}}/credit-notes": {"lines": lines, "reason": "A test."},
        "POST /billing/admin/usage-fees": {
            "tier": "pro",
            "basis_points": 1,
            "effective_from": since,
        },
    }


async def test_no_input_is_answered_with_a_mistake(doors: Doors) -> None:
    document = (await doors.client.get("/openapi.json")).json()
    bodies = good_bodies(doors.ids)
    for operation in operations("billing", document):
        body = None
        if operation.body_type == "application/json":
            body = bodies.get(str(operation)) or operation.body({}, full=True)
        query = {n: doors.ids.get(n, v) for n, v in operation.query({}).items()}
        sent = {"params": query} | ({} if body is None else {"json": body})
        await _with_other_parameters(doors, operation, sent)
        if operation.method == "DELETE":
            continue  # what it names would be gone
        path = doors.path_of(operation)
        kinds = operation.about["responses"].get("200", {}).get("content", {})
        for accept in ACCEPTED if len(kinds) > 1 else ():
            await doors.ask(operation, path, headers={**OFTEN, "accept": accept}, **sent)
        for key in (b"", b"x" * 900, b"\x80") if path.endswith(KEYED) else ():
            await doors.ask(operation, path, headers={"idempotency-key": key}, **sent)
        for raw in BODIES if operation.body_type else ():
            headers = {**OFTEN, "content-type": operation.body_type}
            await doors.ask(operation, path, headers=headers, content=raw, params=query)
        for other in _others(body):
            await doors.ask(operation, path, json=other, params=query)
    assert sorted(doors.complaints) == []


async def test_the_description_names_no_module(doors: Doors) -> None:
    schemas = (await doors.client.get("/openapi.json")).json()["components"]["schemas"]
    # Two of one name are told apart by where their classes are.
    assert [name for name in schemas if "__" in name] == []


async def _with_other_parameters(
    doors: Doors, operation: Operation, sent: Mapping[str, Any]
) -> None:
    for name in operation.path_parameters:
        for text in TEXTS[:2]:
            path = doors.path_of(operation, **{name: quote(text, safe="")})
            await doors.ask(operation, path, **sent)
    for one in operation.about.get("parameters", ()):
        if one["in"] != "query" or operation.method == "DELETE":
            continue
        for text in (*TEXTS, *CURSORS) if one["name"] == "cursor" else TEXTS:
            given = {**sent, "params": {**sent["params"], one["name"]: text}}
            await doors.ask(operation, doors.path_of(operation), **given)


def _others(body: Any) -> Iterator[Any]:
    """The body with something in each of its places in turn that fits its type and nothing else."""
    for place, value in _places(body):
        odd: tuple[Any, ...] = ()
        if isinstance(value, str):
            odd = ("a\x00b", *MOMENTS)
        elif isinstance(value, int) and not isinstance(value, bool):
            odd = (2**63, -(2**63) - 1)
        for other in odd:
            yield _with_at(body, place, other)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict | list):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in inside:
            yield from _places(inner, (*at, name))
    else:
        yield at, value


def _with_at(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(body))
    here = copy
    for step in place[:-1]:
        here = here[step]
    here[place[-1]] = value
    return copy


EVENT = {
    "specversion": "1.0",
    "source": "/screenshots",
    "type": "usage.reported",
    "subject": str(UUID(int=7)),
    "time": "2026-11-28T00:00:00Z",
    "data": {"meter": "screenshot", "quantity": 1},
}


NOT_COUNTED: tuple[dict[str, Any], ...] = (
    {"id": "\ud800"},
    {"id": "a", "source": "\ud800"},
    {"id": "b", "time": "0001-01-01T00:00:00+14:00"},
    {"id": "c", "time": "9999-12-31T23:59:59-14:00"},
    {"id": "d", "time": -1e15},
    {"id": "e", "data": {"meter": "screenshot", "quantity": 10**29}},
    {"id": "f", "data": {"meter": "screenshot", "quantity": "1e99999"}},
)


async def test_usage_from_outside_that_cannot_be_is_not_counted(doors: Doors) -> None:
    headers = {
        **doors.mint.headers(doors.ada, role="billing", amr=["pat"]),
        "content-type": "application/cloudevents+json",
    }
    for facts in NOT_COUNTED:
        body = json.dumps({**EVENT, **facts})
        answer = await doors.client.post("/billing/usage/events", content=body, headers=headers)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 0), answer.text
        assert len(answer.json()["rejected"] + answer.json()["held"]) == 1


async def test_a_sign_in_for_reading_is_no_key_to_the_billing_team(doors: Doors) -> None:
    document = (await doors.client.get("/openapi.json")).json()
    headers = doors.mint.headers(doors.ada, role="operator", scope="billing:read")
    staff = [one for one in operations("billing", document) if "/admin/" in one.path]
    assert len(staff) > 30
    for operation in staff:
        if operation.path.endswith(("/dashboard", "/dashboard/open")):
            continue  # guarded by a link of theirs
        answer = await doors.client.request(
            operation.method, doors.path_of(operation), headers=headers
        )
        assert answer.status_code == 403, operation
        assert answer.json()["code"] == "scope_missing", operation


async def test_nobody_has_messages_sent_in_a_flood(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "SENT_A_MINUTE", 3)
    grace = doors.mint.headers(uuid4())
    made = await doors.client.post("/billing/webhooks", json={"url": HOOK}, headers=grace)
    path = f"/billing/webhooks/{made.json()['id']}"
    again = {"since": "2026-11-01T00:00:00Z", "all": True}
    answers = [  # the minute may turn in between
        await doors.client.post(f"{path}/redeliver", json=again, headers=grace) for _ in range(7)
    ]
    assert {answer.status_code for answer in answers[:3]} == {202}
    [refused, *_] = [answer for answer in answers if answer.status_code == 429]
    assert refused.json()["code"] == "too_many_deliveries"
    assert refused.headers["retry-after"] == "60"
    assert (await doors.client.get(path, headers=grace)).status_code == 200
