"""Which sessions have ended while access tokens of theirs may still live.

auth knows the truth and keeps it in its database; Valkey holds a copy for everybody who can't wait
until a token expires. A session is a sign-in or a personal token: what a token's `sid` names.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, suppress
from datetime import timedelta
from uuid import UUID

import structlog
from redis.asyncio import Redis

from shared.errors import DependencyUnavailable, SessionEnded
from shared.news.channel import heard_on
from shared.valkey import FAILURES

log = structlog.get_logger(__name__)

# An access token lives for 15 minutes, and clocks may differ a little.
REMEMBERED = timedelta(minutes=16)

_PREFIX = "companion:ended_session:"
_COMPLETE = "companion:ended_sessions_complete"
_CHANNEL = "companion.ended_sessions"
_LOOK_AGAIN_SECONDS = 30.0
_MOST_AT_ONCE = 500  # looked up in one question: nothing else runs while it is packed and read


class EndedSessions:
    """The copy in Valkey.

    An empty Valkey would say that nobody has signed out. So it counts only while it holds a mark
    that auth sets after having written all that it knows; without it nobody gets an answer.
    """

    def __init__(self, cache: Redis, listener: Redis | None = None) -> None:
        """`cache` has hard timeouts; `listener` may wait for as long as nothing happens."""
        self._cache = cache
        self._listener = listener

    async def tell(self, session_ids: Iterable[UUID]) -> None:
        """Let everybody know at once. A failure is only logged: `repeat` will tell them again."""
        ids = list(session_ids)
        if not ids:
            return
        try:
            await self._write(ids)
            for id_ in ids:
                await self._cache.publish(_CHANNEL, str(id_))
        except FAILURES as error:
            log.warning("ended_sessions_not_told", reason=type(error).__name__)

    async def take_back(self, session_ids: Iterable[UUID]) -> None:
        """Let these pass for sessions that go on. A failure is only logged: they pass once what is
        remembered of them is over."""
        names = [f"{_PREFIX}{id_}" for id_ in session_ids]
        if not names:
            return
        try:
            await self._cache.delete(*names)
        except FAILURES as error:
            log.warning("ended_sessions_not_taken_back", reason=type(error).__name__)

    async def repeat(self, all_ended_lately: Iterable[UUID]) -> None:
        """Write all that ended within `REMEMBERED`, then mark the copy as complete.

        Raises DependencyUnavailable.
        """
        try:
            await self._write(all_ended_lately)
            await self._cache.set(_COMPLETE, "1")
        except FAILURES as error:
            raise DependencyUnavailable("session store") from error

    async def check(self, session_id: UUID) -> None:
        """Raises SessionEnded, or DependencyUnavailable when that can't be known."""
        try:
            ended, complete = await self._cache.mget(f"{_PREFIX}{session_id}", _COMPLETE)
        except FAILURES as error:
            raise DependencyUnavailable("session store") from error
        if ended is not None:
            raise SessionEnded
        if complete is None:
            raise DependencyUnavailable("session store")

    async def heard(self, running: Callable[[], Collection[UUID]]) -> AsyncIterator[UUID]:
        """Every session that ends from now on, within a second; goes on by itself once a lost
        Valkey is back.

        `running` are the sessions that the hearer serves at the moment: they are also looked up
        every half minute, in case that the news of one was missed.
        """
        assert self._listener is not None, "made without a listener"
        looked_at = time.monotonic()
        async with aclosing(heard_on(self._listener, _CHANNEL, news="ended_sessions")) as messages:
            async for message in messages:
                if message is not None:
                    with suppress(ValueError):
                        yield UUID(message.decode("ascii", "replace"))
                if time.monotonic() - looked_at > _LOOK_AGAIN_SECONDS:
                    looked_at = time.monotonic()
                    for id_ in await self._ended_among(list(running())):
                        yield id_

    async def _ended_among(self, ids: Sequence[UUID]) -> list[UUID]:
        ended: list[UUID] = []
        for first in range(0, len(ids), _MOST_AT_ONCE):
            some = ids[first : first + _MOST_AT_ONCE]
            try:
                marks = await self._cache.mget([f"{_PREFIX}{id_}" for id_ in some])
            except FAILURES as error:
                log.warning("ended_sessions_not_looked_up", reason=type(error).__name__)
                break
            ended += [id_ for id_, mark in zip(some, marks, strict=True) if mark is not None]
        return ended

    async def _write(self, session_ids: Iterable[UUID]) -> None:
        pipe = self._cache.pipeline(transaction=False)
        for id_ in session_ids:
            pipe.set(f"{_PREFIX}{id_}", "1", ex=REMEMBERED)
        await pipe.execute()
