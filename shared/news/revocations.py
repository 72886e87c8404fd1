"""The channel on which replicas hear that a key is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime
from types import NoneType
from typing import Any
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.ids import UserId
from shared.revocation import Revocation

log = structlog.get_logger(__name__)

# uvloop raises RuntimeError for a write to a connection that is closed already.
_FAILURES = (RedisError, OSError, TimeoutError, RuntimeError)
_WAIT_SECONDS = 1.0


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
        except _FAILURES as error:
            log.warning("revocations_not_announced", reason=type(error).__name__)

    async def heard(self) -> AsyncIterator[Revocation]:
        """Every revocation from now on; goes on by itself once a lost Valkey is back."""
        while True:
            try:
                async with self._listener.pubsub() as channel:
                    await channel.subscribe(self._channel)
                    while True:
                        message = await channel.get_message(
                            ignore_subscribe_messages=True, timeout=5
                        )
                        revocation = _from_wire(message["data"]) if message else None
                        if revocation is not None:
                            yield revocation
            except _FAILURES as error:
                log.warning("revocations_unheard", reason=type(error).__name__)
            await asyncio.sleep(_WAIT_SECONDS)


def open_listener(url: str) -> Redis:
    """A Valkey client for a subscription: no time limit on silence, but one that notices death."""
    return Redis.from_url(
        url,
        socket_timeout=None,
        socket_connect_timeout=1,
        socket_keepalive=True,
        health_check_interval=15,
    )


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
    """None for what can't be read: anybody who reaches this Valkey may write to the channel."""
    with suppress(ValueError, KeyError, TypeError):
        wire = orjson.loads(data)
        at, version = datetime.fromisoformat(wire["at"]), wire.get("version")
        if at.tzinfo is not None and type(version) in (int, NoneType):
            user_id, provider = UserId(UUID(str(wire["user_id"]))), str(wire["provider"])
            return Revocation(user_id, provider, at, version)
    return None
