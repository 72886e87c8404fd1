"""The channels on which chat's replicas hear of turns to stop and of what happens in rooms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from services.chat.domain.conversation import SessionId
from services.chat.domain.live import Emitted, LiveNews, Missed, StopAsked, TurnBegan
from services.chat.domain.turn import TurnId
from shared.errors import DependencyUnavailable
from shared.news.channel import is_unanswered

log = structlog.get_logger(__name__)

_STOPS = "chat.stops"
_ROOM = "chat.room."
# The first letter of a message in a room says what it is.
_BEGAN, _EMITTED = b"b", b"e"
# What redis-py raises when a connection is closed under its reader is not always its own.
_FAILURES = (RedisError, OSError, TimeoutError, RuntimeError)
_WAIT_SECONDS = 1.0
_SILENCE_SECONDS = 5.0
_CONFIRMED_SECONDS = 1.0


def began_message(session_id: SessionId, turn_id: TurnId) -> tuple[str, bytes]:
    """The channel and the message that announce a turn to its room."""
    return f"{_ROOM}{session_id}", _BEGAN + str(turn_id).encode()


class ValkeyLiveChannel:
    """One subscription for each replica. It hears stops, and the rooms that have somebody in them
    here; a room is a chat session."""

    def __init__(self, cache: Redis, listener: Redis) -> None:
        """`cache` has hard timeouts; `listener` may wait for as long as nothing happens."""
        self._cache = cache
        self._listener = listener
        self._rooms: set[str] = set()
        self._subscription: PubSub | None = None
        self._confirmations: dict[str, asyncio.Future[None]] = {}

    async def stop(self, turn_id: TurnId) -> None:
        await self._publish(_STOPS, str(turn_id).encode())

    async def emit(self, session_id: SessionId, message: bytes) -> None:
        await self._publish(f"{_ROOM}{session_id}", _EMITTED + message)

    async def _publish(self, channel: str, message: bytes) -> None:
        try:
            await self._cache.publish(channel, message)
        except _FAILURES as error:
            raise DependencyUnavailable("live channel") from error

    async def enter(self, session_id: SessionId) -> None:
        """Returns once Valkey has confirmed it, so that nothing of what comes then is missed; while
        it is away, the room is entered when it is back."""
        room = f"{_ROOM}{session_id}"
        confirmed = self._confirmations.get(room)
        if room not in self._rooms:
            self._rooms.add(room)
            if self._subscription is None:
                return
            confirmed = self._confirmations[room] = asyncio.get_running_loop().create_future()
            try:
                await self._subscription.subscribe(room)
            except _FAILURES as error:
                log.warning("room_not_entered", reason=type(error).__name__)
                return
        # Whoever comes second waits for what the first has asked for.
        if confirmed is not None:
            done, _ = await asyncio.wait({confirmed}, timeout=_CONFIRMED_SECONDS)
            if not done:
                log.warning("room_not_confirmed")

    async def leave(self, session_id: SessionId) -> None:
        room = f"{_ROOM}{session_id}"
        self._rooms.discard(room)
        self._confirmations.pop(room, None)
        if self._subscription is not None:
            with suppress(*_FAILURES):
                await self._subscription.unsubscribe(room)

    async def heard(self) -> AsyncIterator[LiveNews]:
        """Everything from now on; `Missed` first, whenever there may have been more before."""
        while True:
            try:
                async with self._listener.pubsub() as subscription:
                    await subscription.subscribe(_STOPS, *self._rooms)
                    self._subscription = subscription
                    yield Missed()
                    while True:
                        message = await subscription.get_message(timeout=_SILENCE_SECONDS)
                        if message is None and is_unanswered(subscription):
                            raise TimeoutError
                        news = self._read(message) if message else None
                        if news is not None:
                            yield news
            except _FAILURES as error:
                log.warning("live_channel_unheard", reason=type(error).__name__)
            finally:
                self._subscription = None
            await asyncio.sleep(_WAIT_SECONDS)

    def _read(self, message: dict[str, Any]) -> LiveNews | None:
        channel = message["channel"].decode("ascii", "replace")
        if message["type"] == "subscribe":
            confirmation = self._confirmations.pop(channel, None)
            if confirmation is not None and not confirmation.done():
                confirmation.set_result(None)
        elif message["type"] == "message":
            # Anybody who reaches this Valkey may write to a channel.
            with suppress(ValueError):
                return _news(channel, message["data"])
        return None


def _news(channel: str, data: bytes) -> LiveNews | None:
    if channel == _STOPS:
        return StopAsked(TurnId(_id(data)))
    session_id = SessionId(UUID(channel.removeprefix(_ROOM)))
    if data[:1] == _BEGAN:
        return TurnBegan(session_id, TurnId(_id(data[1:])))
    return Emitted(session_id, data[1:]) if data[:1] == _EMITTED else None


def _id(data: bytes) -> UUID:
    return UUID(data.decode("ascii", "replace"))
