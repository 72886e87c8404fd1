"""Users for measurements: each with a token, a key and a chat session."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
from joserfc.jwk import ECKey

from shared.tokens import sign_access_token
from tests.support.suite import Suite

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Chatter:
    """Somebody who asks in one session."""

    token: str
    url: str


async def chatters(suite: Suite, tier: str, number: int) -> list[Chatter]:
    """So many users of a tier, ready to ask."""
    return await chatters_at(suite.url, suite.installation.data.signing_keys, tier, number)


async def chatters_at(url: str, signing_keys: Path, tier: str, number: int) -> list[Chatter]:
    """The same at any gateway, whose tokens are signed with the keys in that file."""
    key, places = _signing_key(signing_keys), asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:

        async def one() -> Chatter:
            async with places:
                return await _a_chatter(client, key, tier)

        return await asyncio.gather(*(one() for _ in range(number)))


def _signing_key(signing_keys: Path) -> ECKey:
    document = json.loads(signing_keys.read_text())
    (active,) = [key for key in document["keys"] if key["state"] == "active"]
    return ECKey.import_key(active)


async def issuer_of(client: httpx.AsyncClient) -> str:
    """What that gateway's tokens must name."""
    answer = await client.get("/.well-known/oauth-authorization-server")
    return str(answer.raise_for_status().json()["issuer"])


async def _a_chatter(client: httpx.AsyncClient, key: ECKey, tier: str) -> Chatter:
    now = int(time.time())
    claims = {
        "iss": await issuer_of(client),
        "aud": "companion",
        "sub": str(uuid4()),
        "sid": str(uuid4()),
        "jti": str(uuid4()),
        "tier": tier,
        "role": "member",
        "org": None,
        "scope": "chat keys",
        "auth_time": now,
        "amr": ["pwd"],
    }
    token = sign_access_token(key, claims, issued_at=now, lifetime_seconds=900)
    headers = {"authorization": f"Bearer {token}"}
    stored = await client.put("/keys/openai", json={"api_key": "bench-key-1"}, headers=headers)
    stored.raise_for_status()
    session = await client.post("/chat/sessions", json={}, headers=headers)
    session.raise_for_status()
    return Chatter(token, f"{client.base_url}/chat/sessions/{session.json()['id']}/messages")
