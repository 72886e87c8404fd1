"""Two tenants of one suite, and everything of the one that the other might ask for."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from joserfc.jwk import ECKey

from services.auth.domain.signing_keys import parse_signing_keys
from shared.tokens import sign_access_token
from tests.support.openapi import Operation, operations
from tests.support.suite import Person, Suite, eventually

T = TypeVar("T")

SERVICES = ("auth", "keyvault", "chat", "voice", "billing")

# What a field of a path, a query or a body may name. An id of something that belongs to somebody
# goes into `OWNED`: `everything_of` makes one, and nobody else may see that it exists.
OWNED = frozenset(
    {
        *("session_id", "sign_in_id", "token_id", "event_id", "message_id"),
        "turn_id",
        *("organisation_id", "user_id", "invitation_id", "holder_id", "holder"),
        *("webhook_id", "delivery_id"),
    }
)
# Words that everybody may say: what answers is the caller's own, or everybody's.
SHARED: Mapping[str, str] = {
    "provider": "openai",
    "model": "gpt-4o-mini",
    "model_id": "eleven_flash_v2_5",
    "collection_id": "nobodys-collection",
    "version": "v1",
    "after_id": "claude-sonnet-5-5",
    "before_id": "claude-sonnet-5-5",
    "voice_id": "21m00Tcm4TlvDq8ikWAM",
    "speak_voice_id": "21m00Tcm4TlvDq8ikWAM",
    # Of 256 random bits, and known to whoever reads a mail alone.
    "token": "nobody-has-ever-been-sent-this-one",
    "month": "2026-10",  # of the operator's books
    "vat_id": "DE123456789",  # printed on whatever its holder sends
    "drift_id": "7",
    # Of what is held, which only the billing team could name.
    "reporter_id": "0198c0de-0000-7000-8000-00000000ada7",
    "id": "shot-1",
    "cursor": "0198c0de-0000-7000-8000-00000000ada0",
    # In a sandbox nobody pays, and only the billing team could name one.
    "payment_id": "0198c0de-0000-7000-8000-00000000ada1",
    "export_id": "0198c0de-0000-7000-8000-00000000ada2",
    # Sandbox usage is never invoiced: whose documents are hidden, tests of billing's doors show.
    "invoice_id": "0198c0de-0000-7000-8000-00000000ada3",
    "line_id": "0198c0de-0000-7000-8000-00000000ada4",
    "credit_note_id": "0198c0de-0000-7000-8000-00000000ada5",
    "looked_by": "0198c0de-0000-7000-8000-00000000ada6",  # one of the billing team
}
# What else bodies need in order to be more than well-formed.
VALUES: Mapping[str, Any] = {
    "tier": "free",
    "country": "DE",
    "url": "http://127.0.0.1:9999/",
    "scopes": ["chat"],
    "api_key": "marked-key-of-nobody",
    "email": "somebody@example.com",
    "new_email": "somebody@example.com",
}


@dataclass(frozen=True, slots=True)
class Belongings:
    """Real ids of one person's things, and texts that nobody else may ever be shown."""

    owner: Person
    ids: Mapping[str, str]
    marks: frozenset[str]
    personal_token: str = field(repr=False)

    async def look(self) -> dict[str, Any]:
        """Everything as its owner sees it, without what changes by being looked at."""
        ids, client = self.ids, self.owner.client
        organisation = f"/auth/organisations/{ids['organisation_id']}"
        paths = (
            *("/auth/me", "/auth/sessions", "/auth/tokens", organisation),
            *(f"{organisation}/members", f"{organisation}/invitations"),
            *("/keys", "/chat/sessions", f"/chat/sessions/{ids['session_id']}/messages"),
            *("/billing/subscription", f"/billing/usage/records/{ids['event_id']}"),
            f"/billing/subscription?organisation_id={ids['organisation_id']}",
            *("/billing/balance", "/billing/details", "/billing/alerts"),
            *("/billing/webhooks", f"/billing/webhooks/{ids['webhook_id']}"),
            f"/billing/webhooks/{ids['webhook_id']}/deliveries",
            f"/billing/details?organisation_id={ids['organisation_id']}",
            f"/keys/organisations/{ids['organisation_id']}",
            f"/billing/organisations/{ids['organisation_id']}/usage?from=2026-11-01&to=2026-11-30",
        )
        answers = await together(client.get(path) for path in paths)
        for answer in answers:
            assert answer.status_code == 200, f"{answer.request.url}: {answer.text}"
        return {str(a.request.url): _settled(a.json()) for a in answers}

    def shown_in(self, answer: httpx.Response) -> set[str]:
        """What of this an answer holds, apart from what its request said already."""
        asked = str(answer.request.url) + answer.request.content.decode("utf-8", "replace")
        return {mark for mark in self.marks if mark in answer.text and mark not in asked}


def _settled(value: Any) -> Any:
    if isinstance(value, dict):
        moving = {"last_used_at", "expires_at", "last_validated_at", "updated_at"}
        return {key: _settled(inner) for key, inner in value.items() if key not in moving}
    return [_settled(inner) for inner in value] if isinstance(value, list) else value


async def everything_of(owner: Person) -> Belongings:
    """One of each kind of thing that a user can have."""
    client, mark = owner.client, f"marked-{uuid4().hex}"
    await owner.store_key("elevenlabs")
    voice_key = owner.api_key
    await owner.store_key()
    session = await _made(client.post("/chat/sessions", json={"name": f"{mark} session"}))
    owner.session_id = session["id"]
    answer = await owner.ask(f"{mark} message")
    assert answer.status_code == 200, answer.text
    wish = {"name": f"{mark} token", "scopes": ["chat"], "expires_in_days": 1}
    token = await _made(client.post("/auth/tokens", json=wish))
    organisation = await _made(client.post("/auth/organisations", json={"name": f"{mark} org"}))
    path = f"/auth/organisations/{organisation['id']}/invitations"
    invitation = await _made(client.post(path, json={"email": f"{mark}@example.com"}))
    shared_key = await _shared_key(client, organisation["id"])
    for whose in ({}, {"organisation_id": organisation["id"]}):
        address = {"address_lines": [f"{mark} street"], "city": mark, "country": "DE"}
        kept = await client.put("/billing/details", json={"name": mark, **address, **whose})
        assert kept.status_code == 200, kept.text
    webhook, delivery_id = await _webhook(client)
    await owner.refresh()
    [sign_in] = (await client.get("/auth/sessions")).json()["data"]

    async def records() -> list[dict[str, Any]]:
        return list((await client.get("/billing/usage/records")).json()["data"])

    record = (await eventually(records, bool))[0]
    [(turn_id,)] = owner.suite.rows(
        "chat", "select id::text from generation where user_id = %s", owner.id
    )
    ids = {
        "session_id": session["id"],
        "turn_id": turn_id,
        "message_id": answer.json()["message"]["id"],
        "sign_in_id": sign_in["id"],
        "token_id": token["id"],
        "event_id": record["event_id"],
        "organisation_id": organisation["id"],
        "user_id": owner.id,
        "holder_id": owner.id,
        "holder": owner.id,
        "invitation_id": invitation["id"],
        "webhook_id": webhook["id"],
        "delivery_id": delivery_id,
    }
    secrets = {
        webhook["secret"],
        owner.name,
        owner.api_key,
        voice_key,
        shared_key,
        token["token"],
        mark,
    }
    return Belongings(owner, ids, frozenset(secrets | set(ids.values())), token["token"])


async def _shared_key(client: httpx.AsyncClient, organisation_id: str) -> str:
    """A key of the organisation's that its vendor takes."""
    shared_key = f"marked-shared-{uuid4().hex}"
    path = f"/keys/organisations/{organisation_id}/openai"
    stored = await client.put(path, json={"api_key": shared_key})
    assert stored.status_code == 202, stored.text

    async def state() -> str:
        return str((await client.get(path)).json()["status"])

    await eventually(state, lambda seen: seen == "valid")
    return shared_key


async def _webhook(client: httpx.AsyncClient) -> tuple[dict[str, Any], str]:
    """One that nobody listens at, and the id of what waits for it."""
    address = {"url": "http://127.0.0.1:9999/", "types": ["invoice.finalized"]}
    webhook = await _made(client.post("/billing/webhooks", json=address))
    tested = await client.post(f"/billing/webhooks/{webhook['id']}/test")
    assert tested.status_code == 202, tested.text
    await client.patch(f"/billing/webhooks/{webhook['id']}", json={"enabled": False})
    return webhook, str(tested.json()["id"])


async def _made(call: Awaitable[httpx.Response]) -> dict[str, Any]:
    answer = await call
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def all_operations(client: httpx.AsyncClient) -> list[Operation]:
    """Every operation that the five documents name."""
    found: list[Operation] = []
    for service in SERVICES:
        answer = await client.get(f"/{service}/openapi.json")
        assert answer.status_code == 200, answer.text
        found += operations(service, answer.json())
    return found


def fields_of(operation: Operation) -> set[str]:
    """The names of all that an operation can be told, wherever."""
    asked = {one["name"] for one in operation.about.get("parameters", ()) if one["in"] != "header"}
    body = operation.body({}, full=True)
    return asked | set(operation.path_parameters) | set(body if isinstance(body, dict) else ())


def unknown_to(operation: Operation) -> list[str]:
    """Fields that name a thing, of which nobody has said whose it is."""
    ids = {name for name in fields_of(operation) if name == "id" or name.endswith("_id")}
    named = ids | set(operation.path_parameters)
    # OAuth's clients are nobody's, and made on the console.
    return sorted(named - OWNED - set(SHARED) - {"client_id"})


def request_for(operation: Operation, ids: Mapping[str, str], **body: Any) -> dict[str, Any]:
    """A well-formed request with these ids in it, for `client.request(**…)`."""
    words = {**SHARED, **ids}
    path = operation.path
    for name in operation.path_parameters:
        path = path.replace(f"{{{name}}}", words[name])
    request: dict[str, Any] = {"method": operation.method, "url": path}
    optional = {name: ids[name] for name in fields_of(operation) & set(ids)}
    filled = operation.body({**VALUES, **words})
    if isinstance(filled, dict):
        known = operation.body(words, full=True)
        filled |= {name: value for name, value in optional.items() if name in known} | body
    if filled is not None:
        is_form = operation.body_type == "application/x-www-form-urlencoded"
        request["data" if is_form else "json"] = filled
    query = operation.query({**VALUES, **words})
    asked = {one["name"] for one in operation.about.get("parameters", ()) if one["in"] == "query"}
    query |= {name: value for name, value in optional.items() if name in asked}
    if query:
        request["params"] = query
    return request


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, unchecked."""
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def bad_tokens(suite: Suite, good: str) -> dict[str, str]:
    """Tokens that are like a good one in all but one thing."""
    claims = claims_of(good)
    text = suite.installation.data.signing_keys.read_text()
    ours = parse_signing_keys(text).active
    foreign = ECKey.generate_key("P-256", {"kid": str(ours.kid), "use": "sig", "alg": "ES256"})
    removed = ECKey.generate_key("P-256", {"kid": "a-removed-key", "use": "sig", "alg": "ES256"})
    now = int(time.time())

    def signed(key: ECKey, *, at: int = now, **changes: Any) -> str:
        kept = {name: value for name, value in claims.items() if name not in ("iat", "exp")}
        return sign_access_token(key, {**kept, **changes}, issued_at=at, lifetime_seconds=900)

    return {
        "expired": signed(ours, at=now - 3600),
        "foreign": signed(foreign),
        "of a key that is not published": signed(removed),
        "another audience's": signed(ours, aud="somebody-else"),
        "unsigned": good.rpartition(".")[0] + ".",
    }


async def together(calls: Iterable[Awaitable[T]], at_once: int = 8) -> Sequence[T]:
    """All of them, a few at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(call: Awaitable[T]) -> T:
        async with gate:
            return await call

    return await asyncio.gather(*(one(call) for call in calls))
