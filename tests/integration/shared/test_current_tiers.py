"""A tier that has changed is heard of at once by whoever has a connection open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest

from shared.ids import UserId
from shared.limits.admission import tier_key
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


async def test_what_was_told_is_known_for_longer_than_any_token_that_claims_another(
    url: str,
) -> None:
    ada, grace = UserId(uuid4()), UserId(uuid4())
    async with open_listener(url) as cache:
        tiers = CurrentTiers(cache)
        await tiers.tell({ada: "pro", grace: "free"})
        for user in (ada, grace):
            assert 1_100 < await cache.ttl(tier_key(str(user))) <= 1_200

        await tiers.doubt([ada])
        assert 50 < await cache.ttl(tier_key(str(ada))) <= 60
        assert await cache.get(tier_key(str(ada))) == b"pro", "it counts for a moment more"
        assert await cache.ttl(tier_key(str(grace))) > 1_100
