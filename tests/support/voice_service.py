"""A running voice service for integration tests: its surroundings, its users, its traces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import orjson

from services.voice.app import create_app
from services.voice.settings import Settings
from shared.db.database import Database, open_database
from shared.http.app import WebProcess
from shared.settings import service_database_url
from tests.support.egress import EgressStandIn
from tests.support.simulator.process import RunningSimulator
from tests.support.tokens import TokenMint, serving


@dataclass
class Surroundings:
    """What a voice process finds around it."""

    database_url: str
    cache_url: str
    simulator: RunningSimulator
    egress: EgressStandIn
    mint: TokenMint
    jwks_url: str
    identity_key_file: Path
    identity_trust_file: Path

    def environment(self, **changes: Any) -> dict[str, str]:
        """The variables of a process."""
        return {
            "DATABASE_URL": self.database_url,
            "CACHE_URL": self.cache_url,
            "BROKER_URL": self.cache_url,
            "JWKS_URL": self.jwks_url,
            "IDENTITY_KEY_FILE": str(self.identity_key_file),
            "IDENTITY_TRUST_FILE": str(self.identity_trust_file),
            "EGRESS_URL": self.egress.url,
            "SANDBOX": "1",
            **{name: str(value) for name, value in changes.items()},
        }

    def settings(self, **changes: Any) -> Settings:
        return Settings.model_validate(
            {
                "database_url": self.database_url,
                "cache_url": self.cache_url,
                "broker_url": self.cache_url,
                "jwks_url": self.jwks_url,
                "identity_key_file": self.identity_key_file,
                "identity_trust_file": self.identity_trust_file,
                "egress_url": self.egress.url,
                "shed_after_seconds": 0,  # no relay runs here
                **changes,
            }
        )


@dataclass
class Person:
    """A user with a key of their own at the vendor."""

    surroundings: Surroundings
    tier: str
    id: UUID = field(default_factory=uuid4)

    @property
    def key(self) -> str:
        return self.surroundings.egress.keys[self.id, "elevenlabs"]

    def has_key(self, key: str) -> Person:
        self.surroundings.egress.keys[self.id, "elevenlabs"] = key
        return self

    @property
    def headers(self) -> dict[str, str]:
        return self.surroundings.mint.headers(self.id, tier=self.tier)

    def served(self) -> list[dict[str, Any]]:
        """What the vendor did for this user's key."""
        return self.surroundings.simulator.served(key=self.key)


@dataclass
class Voice:
    """A running voice process and the ways into it."""

    surroundings: Surroundings
    client: httpx.AsyncClient
    process: WebProcess
    database: Database
    url: str

    def person(self, tier: str = "pro") -> Person:
        person = Person(self.surroundings, tier)
        return person.has_key(f"sk_{person.id.hex}")

    async def say(
        self, person: Person, text: str = "Hello there.", **wishes: Any
    ) -> httpx.Response:
        headers = {**person.headers, **wishes.pop("headers", {})}
        body = {"text": text, "voice_id": "21m00Tcm4TlvDq8ikWAM", **wishes}
        return await self.client.post("/voice/speech", json=body, headers=headers)

    async def usage(self, person: Person) -> list[dict[str, Any]]:
        """What billing is told about this user, once nothing is running any more."""
        await self.until_settled(person)
        rows = await self.database.fetch(
            "select envelope from outbox where envelope->>'subject' = $1"
            " and starts_with(stream, 'usage.') order by created_at",
            str(person.id),
        )
        return [row["envelope"]["data"] | {"id": row["envelope"]["id"]} for row in rows]

    async def speeches(self, person: Person) -> list[asyncpg.Record]:
        return await self.database.fetch(
            "select * from speech where user_id = $1 order by id", person.id
        )

    async def until_settled(self, person: Person) -> None:
        await self.until(lambda rows: all(row["state"] == "settled" for row in rows), person)

    async def until(self, holds: Callable[[list[Any]], bool], person: Person) -> None:
        """Wait for a condition on the user's speeches."""
        async with asyncio.timeout(10):
            while not holds(await self.speeches(person)):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running_voice(surroundings: Surroundings, **changes: Any) -> AsyncIterator[Voice]:
    """A voice process of its own, with some settings changed."""
    settings = surroundings.settings(**changes)
    process = create_app(settings)
    url = service_database_url(surroundings.database_url, "voice")
    async with (
        process.lifespan(),
        serving(process.public) as base_url,
        httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=30) as client,
        open_database(url, connections=4, application="tests") as database,
    ):
        yield Voice(surroundings, client, process, database, base_url)


def problem(response: httpx.Response) -> dict[str, Any]:
    """The problem document of an answer."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    document: dict[str, Any] = orjson.loads(response.content)
    assert document["status"] == response.status_code
    return document
