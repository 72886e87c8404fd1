"""A tier that has changed is heard of at once by whoever has a connection open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest

from shared.ids import UserId
from shared.limits.current_tiers import CurrentTiers
from shared.valkey import open_cache, open_listener
from tests.support.engines import ValkeyServer


@pytest.fixture
def url(valkey_server: ValkeyServer) -> Iterator[str]:
    with valkey_server.fresh_database() as url:
        yield url


async def test_what_is_told_is_heard_and_nonsense_is_not(url: str) -> None:
    ada, grace = UserId(uuid4()), UserId(uuid4())
    async with open_cache(url) as cache, open_listener(url) as listener:
        tiers = CurrentTiers(cache, listener)
        heard = tiers.heard()
        first = asyncio.ensure_future(anext(heard))
        async with asyncio.timeout(5):
            # Subscribed once somebody hears it.
            while not await cache.publish("companion.tiers", b"no json"):
                await asyncio.sleep(0.01)
            for nonsense in (b"[]", b'{"user_id":"x","tier":"pro"}', b"\xff", b'{"tier":"pro"}'):
                await cache.publish("companion.tiers", nonsense)
            await tiers.tell({ada: "pro", grace: "-"})
            assert await first == (ada, "pro")
            assert await anext(heard) == (grace, "-")
        await heard.aclose()  # type: ignore[attr-defined]
