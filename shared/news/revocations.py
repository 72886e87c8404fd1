"""The channel on which replicas hear that a key is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from types import NoneType
from typing import Any
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis

from shared.ids import UserId
from shared.news.channel import heard_on
from shared.revocation import Revocation
from shared.valkey import FAILURES

log = structlog.get_logger(__name__)


class ValkeyRevocations:
    """Publish and subscribe: whoever is not listening at that moment misses it.

    That is enough, because a missed one costs nothing but the rest of what runs: the next call with
    the key fails at keyvault.
    """

    def __init__(self, service: str, cache: Redis, listener: Redis) -> None:
        """`cache` has hard timeouts; `listener` may wait for as long as nothing happens."""
        self._channel = f"{service}.revocations"
        self._cache = cache
        self._listener = listener

    async def announce(self, revocations: Sequence[Revocation]) -> None:
        try:
            for revocation in revocations:
                await self._cache.publish(self._channel, _to_wire(revocation))
        except FAILURES as error:
            log.warning("revocations_not_announced", reason=type(error).__name__)

    async def heard(self) -> AsyncIterator[Revocation]:
        """Every revocation from now on; goes on by itself once a lost Valkey is back."""
        async with aclosing(heard_on(self._listener, self._channel, news="revocations")) as found:
            async for message in found:
                revocation = _from_wire(message)
                if revocation is not None:
                    yield revocation


def _to_wire(revocation: Revocation) -> bytes:
    return orjson.dumps(
        {
            "user_id": str(revocation.user_id),
            "provider": revocation.provider,
            "at": revocation.at.isoformat(),
            "version": revocation.version,
        }
    )


def _from_wire(data: Any) -> Revocation | None:
    """None for silence, and for what can't be read."""
    with suppress(ValueError, KeyError, TypeError):
        wire = orjson.loads(data)
        at, version = datetime.fromisoformat(wire["at"]), wire.get("version")
        if at.tzinfo is not None and type(version) in (int, NoneType):
            user_id, provider = UserId(UUID(str(wire["user_id"]))), str(wire["provider"])
            return Revocation(user_id, provider, at, version)
    return None
