"""Chat's web application in process, on real engines, before the simulator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.chat.app import create_app
from services.chat.settings import Settings
from shared.db.database import Database, open_database
from shared.http.app import WebProcess
from shared.settings import service_database_url
from tests.support.egress import EgressStandIn, egress_to
from tests.support.engines import PostgresServer, ValkeyServer
from tests.support.simulator.process import RunningSimulator, running_simulator
from tests.support.tokens import TokenMint, serving, write_identities


@dataclass
class ChatUser:
    """A user with a token and a client for chat."""

    client: httpx.AsyncClient
    id: UUID = field(default_factory=uuid4)
    tier: str = "free"
    session_id: str = ""

    async def ask(self, content: str, **parts: Any) -> httpx.Response:
        headers = parts.pop("headers", {})
        return await self.client.post(
            f"/chat/sessions/{self.session_id}/messages",
            json={"content": content, **parts},
            headers=headers,
        )


@dataclass
class ChatSuite:
    """Chat, served on loopback, with what stands around it."""

    url: str
    settings: Settings
    mint: TokenMint
    egress: EgressStandIn
    simulator: RunningSimulator
    database: Database
    process: WebProcess

    @asynccontextmanager
    async def user(
        self, *, tier: str = "free", key: str = "sim-key", **claims: Any
    ) -> AsyncIterator[ChatUser]:
        """A new user with a stored key and a chat session."""
        user_id = uuid4()
        if key:
            for provider in ("openai", "anthropic", "gemini"):
                self.egress.keys[(user_id, provider)] = key
        headers = self.mint.headers(user_id, tier=tier, **claims)
        async with httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=20, trust_env=False
        ) as client:
            answer = await client.post("/chat/sessions", json={})
            assert answer.status_code == 201, answer.text
            yield ChatUser(client, user_id, tier, answer.json()["id"])

    async def usage_events(self, user_id: UUID) -> list[dict[str, Any]]:
        """What billing will be told about a user."""
        rows = await self.database.fetch(
            "select envelope from outbox where envelope->>'subject' = $1 order by event_id",
            str(user_id),
        )
        return [row["envelope"] for row in rows]

    async def holds(self, user_id: UUID) -> list[dict[str, Any]]:
        rows = await self.database.fetch(
            "select * from generation where user_id = $1 order by id", user_id
        )
        return [dict(row) for row in rows]


@pytest.fixture(scope="session")
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator() as running:
        yield running


@pytest.fixture(scope="session")
async def chat(
    tmp_path_factory: pytest.TempPathFactory,
    migrated: Callable[[str], str],
    postgres_server: PostgresServer,
    valkey_server: ValkeyServer,
    simulator: RunningSimulator,
) -> AsyncIterator[ChatSuite]:
    database_url = migrated("chat")
    identities = Path(tmp_path_factory.mktemp("identity"))
    keys = write_identities(identities)
    mint = TokenMint()
    stand_in = egress_to(simulator, trusted_identities=identities / "trusted.json", mint=mint)
    async with mint.served() as jwks_url, stand_in.running() as egress:
        settings = Settings(
            DATABASE_URL=database_url,
            CACHE_URL=valkey_server.url,
            BROKER_URL=valkey_server.url,
            JWKS_URL=jwks_url,
            IDENTITY_KEY_FILE=keys["chat"],
            IDENTITY_TRUST_FILE=identities / "trusted.json",
            EGRESS_URL=egress.url,
            CHAT_SILENCE_SECONDS=1,
            CHAT_DRAIN_SECONDS=0,
            CHAT_RETRY_SECONDS=1,
            CHAT_SHED_AFTER_SECONDS=0,  # no relay runs here
            LOG_LEVEL="warning",
        )
        process = create_app(settings)
        url = service_database_url(database_url, "chat")
        async with (
            process.lifespan(),
            serving(process.public) as served,
            open_database(url, connections=4, application="test") as database,
        ):
            yield ChatSuite(served, settings, mint, egress, simulator, database, process)


@pytest.fixture
async def room_in_the_minute() -> None:
    """With the next one its counters begin anew."""
    left = 60 - time.time() % 60
    if left < 5:
        await asyncio.sleep(left)
