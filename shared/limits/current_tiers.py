"""Which users have another tier now than their access tokens may still claim.

auth tells it to Valkey, where the admission of chat and voice looks at it in the same step as at
the limits. It is told again for as long as a token with the old claim may live. Whoever has an open
connection hears of it at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis

from shared.ids import UserId
from shared.limits.admission import tier_key
from shared.news.channel import heard_on
from shared.valkey import FAILURES

log = structlog.get_logger(__name__)

# Longer than any access token lives.
REMEMBERED = timedelta(minutes=20)
_DOUBTED = timedelta(minutes=1)

_CHANNEL = "companion.tiers"


class CurrentTiers:
    """What auth tells."""

    def __init__(self, cache: Redis, listener: Redis | None = None) -> None:
        """`cache` has hard timeouts; `listener` may wait for as long as nothing happens."""
        self._cache = cache
        self._listener = listener

    async def tell(self, tiers: Mapping[UserId, str]) -> None:
        """A failure is only logged: the next access token carries the tier anyhow."""
        try:
            pipe = self._cache.pipeline(transaction=False)
            for user_id, tier in tiers.items():
                pipe.set(tier_key(str(user_id)), tier, ex=REMEMBERED)
                pipe.publish(_CHANNEL, orjson.dumps({"user_id": str(user_id), "tier": tier}))
            await pipe.execute()
        except FAILURES as error:
            log.warning("current_tiers_not_told", reason=type(error).__name__)

    async def doubt(self, user_ids: Collection[UserId]) -> None:
        """What was told of them may be out of date: it counts for a minute, and then what their
        access tokens claim."""
        try:
            pipe = self._cache.pipeline(transaction=False)
            for user_id in user_ids:
                pipe.expire(tier_key(str(user_id)), _DOUBTED)
            await pipe.execute()
        except FAILURES as error:
            log.warning("current_tiers_not_doubted", reason=type(error).__name__)

    async def heard(self) -> AsyncIterator[tuple[UserId, str]]:
        """Whose tier is told from now on, and which; goes on by itself once a lost Valkey is back.

        It may be missed, and may be the tier that they had before: it is a hint to look again.
        """
        assert self._listener is not None, "made without a listener"
        async with aclosing(heard_on(self._listener, _CHANNEL, news="current_tiers")) as messages:
            async for message in messages:
                told = _from_wire(message)
                if told is not None:
                    yield told


def _from_wire(data: Any) -> tuple[UserId, str] | None:
    """None for silence, and for what can't be read."""
    with suppress(ValueError, KeyError, TypeError):
        wire = orjson.loads(data)
        return UserId(UUID(str(wire["user_id"]))), str(wire["tier"])
    return None
