"""A keyvault with its relay, its broker and its worker, moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from services.keyvault.tasks import listen
from services.keyvault.wiring import Wired, wire
from shared.db.engine import sync_engine
from shared.events.key import KeyValidated, KeyValidationRequested
from shared.messaging.consumer import Consumer
from shared.messaging.publisher import Publisher
from shared.messaging.queues import declare_queues
from shared.messaging.relay import Relay
from shared.messaging.subscriptions import Listen
from shared.settings import service_database_url
from tests.integration.keyvault.harness import Keyvault, Surroundings, running
from tests.support.queues import taken_from

VENDORS = ("openai", "anthropic", "gemini", "elevenlabs")

# Somebody who listens to what is told, so that it stays in the broker for a test to read.
listener = Listen("listener")


@listener.to(KeyValidated, queue="keys")
async def hear(*_: Any) -> None:
    """Never called: the test reads the queue."""


@dataclass
class Worker:
    """A keyvault, its relay and its worker, moved by hand."""

    keyvault: Keyvault
    wired: Wired
    consumer: Consumer
    relay: Relay
    broker_url: str

    async def send(self) -> None:
        """Bring what waits in the outbox to the broker."""
        await asyncio.to_thread(self.relay.run_once)

    async def work(self, *, twice: bool = False) -> None:
        """Handle all that waits for this worker."""
        await self.send()
        for queue in listen.queues(self.broker_url):
            for batch in await asyncio.to_thread(taken_from, self.broker_url, queue.name):
                await self.consumer.receive(KeyValidationRequested.type, batch)
                if twice:
                    await self.consumer.receive(KeyValidationRequested.type, batch)

    async def told(self, tier: str = "free") -> list[dict[str, Any]]:
        """What was told about keys since the last look."""
        await self.send()
        batches = await asyncio.to_thread(taken_from, self.broker_url, f"listener.keys.{tier}")
        return [event for batch in batches for event in batch["events"]]

    async def key(self, user: Any, provider: str = "openai") -> dict[str, Any]:
        answer = await self.keyvault.get(user, f"/keys/{provider}")
        return dict(answer.json())


@asynccontextmanager
async def working(around: Surroundings, **parts: Any) -> AsyncIterator[Worker]:
    """A keyvault and what moves its events."""
    for who in (listen, listener):
        declare_queues(who, around.broker_url)
    engine = sync_engine(service_database_url(around.database_url, "keyvault"))
    publisher = Publisher(around.broker_url)
    async with (
        running(around, **parts) as keyvault,
        wire(around.settings(**parts)) as wired,
    ):
        yield Worker(
            keyvault,
            wired,
            Consumer(listen, wired.actions, wired.database),
            Relay("keyvault", engine, publisher),
            around.broker_url,
        )
    publisher.close()
    engine.dispose()
