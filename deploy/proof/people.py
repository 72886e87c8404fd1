"""The users of the proof: of every tier as many as its limits ask for at this rate."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Any

import httpx

from deploy.companion.errors import CompanionError
from shared.tiers import tier_named
from shared.values import dataclass

SHARES: Mapping[str, float] = {"free": 0.15, "pro": 0.5, "enterprise": 0.35}
"""How much of the load each tier has; the pool that is broken most has most of it."""

_VENDORS = ("openai", "elevenlabs")
_SPARE = 1.6  # nobody should come near their limit: a 429 would say nothing about the fault
_SESSIONS = 3
_AT_ONCE = 3
_TRIES = 4
_PATIENCE_SECONDS = 30.0
_REFRESH_AFTER_SECONDS = 300.0  # an access token lives for 15 minutes


@dataclass(slots=True)
class Person:
    """Somebody with keys at the vendors and a few chat sessions, of which each takes one question
    at a time."""

    tier: str
    id: str
    api_keys: Mapping[str, str]
    access_token: str
    refresh_token: str
    signed_in_at: float
    free_sessions: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.access_token}"}


def how_many(tier: str, turns_per_second: float) -> int:
    """So many users that nobody of them meets the tier's limit of requests a minute."""
    allowance = tier_named(tier).allowance("openai")
    per_minute = (allowance.requests_per_minute if allowance else None) or 60
    return max(2, math.ceil(turns_per_second * SHARES[tier] * 60 * _SPARE / per_minute))


async def gather_people(client: httpx.AsyncClient, turns_per_second: float) -> list[Person]:
    """Register them all, by the gateway like everybody. Raises CompanionError."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(tier: str) -> Person:
        async with places:
            return await _somebody(client, tier)

    tiers = [tier for tier in SHARES for _ in range(how_many(tier, turns_per_second))]
    return await asyncio.gather(*(one(tier) for tier in tiers))


async def stay_signed_in(client: httpx.AsyncClient, people: list[Person]) -> None:
    """Fresh access tokens for all whose own is older than some minutes."""
    for person in people:
        if time.monotonic() - person.signed_in_at > _REFRESH_AFTER_SECONDS:
            await _refresh(client, person)


async def _somebody(client: httpx.AsyncClient, tier: str) -> Person:
    """One who got through all of it; a machine that is busy starting lets some time out."""
    for left in reversed(range(_TRIES)):
        try:
            return await _a_person(client, tier)
        except (CompanionError, httpx.HTTPError) as error:
            if not left:
                raise CompanionError(f"Nobody of the {tier} tier could sign in: {error}") from error
    raise AssertionError("unreachable")


async def _a_person(client: httpx.AsyncClient, tier: str) -> Person:
    name, password = f"proof-{secrets.token_hex(5)}", secrets.token_urlsafe(18)
    account = {"email": f"{name}@example.com", "username": name, "password": password}
    await _call(client, "POST", "/auth/register", account, expect=201)
    tokens = await _call(client, "POST", "/auth/login", {"login": name, "password": password})
    person = Person(
        tier,
        tokens["user"]["id"],
        {vendor: f"proof-key-{secrets.token_hex(12)}" for vendor in _VENDORS},
        tokens["access_token"],
        tokens["refresh_token"],
        time.monotonic(),
    )
    if tier != "free":
        await _become(client, person)
    await _store_keys(client, person)
    for _ in range(_SESSIONS):
        session = await _call(client, "POST", "/chat/sessions", {}, by=person, expect=201)
        person.free_sessions.append(session["id"])
    return person


async def _become(client: httpx.AsyncClient, person: Person) -> None:
    await _call(client, "PUT", "/billing/subscription", {"tier": person.tier}, by=person)
    with _patiently(f"the tier {person.tier}") as again:
        while await _refresh(client, person) != person.tier:
            next(again)
            await asyncio.sleep(0.2)


async def _store_keys(client: httpx.AsyncClient, person: Person) -> None:
    for vendor, key in person.api_keys.items():
        path = f"/keys/{vendor}"
        await _call(client, "PUT", path, {"api_key": key}, by=person, expect=202)
        with _patiently(f"the validation of a key at {vendor}") as again:
            while (await _call(client, "GET", path, by=person))["status"] == "pending":
                next(again)
                await asyncio.sleep(0.2)


async def _refresh(client: httpx.AsyncClient, person: Person) -> str:
    body = {"refresh_token": person.refresh_token}
    tokens = await _call(client, "POST", "/auth/refresh", body)
    person.access_token, person.refresh_token = tokens["access_token"], tokens["refresh_token"]
    person.signed_in_at = time.monotonic()
    return str(tokens["user"]["tier"])


async def _call(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    by: Person | None = None,
    expect: int = 200,
) -> Any:
    answer = await client.request(method, path, json=body, headers=by.headers if by else None)
    if answer.status_code != expect:
        raise CompanionError(f"{method} {path} answered {answer.status_code}: {answer.text[:300]}")
    return answer.json()


@contextmanager
def _patiently(what: str) -> Iterator[Iterator[None]]:
    def again() -> Iterator[None]:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            yield
        raise CompanionError(f"Waited {_PATIENCE_SECONDS:.0f} s for {what} in vain.")

    yield again()
