"""Refuse tokens whose session has ended, without asking anybody at each request.

A token proves by its signature alone that its session once began. That it goes on is looked up in
Valkey when this process meets the session for the first time, and from then on heard: see
`EndedSessions`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

import structlog

from shared.errors import DependencyUnavailable, SessionEnded
from shared.news.ended_sessions import REMEMBERED
from shared.tokens import Identity

log = structlog.get_logger(__name__)

# How long nobody is made to wait for a Valkey that is away.
_PAUSE_SECONDS = 1.0


class Lookup(Protocol):
    """Where it stands which sessions have ended; `EndedSessions` fits."""

    async def check(self, session_id: UUID) -> None:
        """Raises SessionEnded, or DependencyUnavailable when that can't be known."""
        ...


class Verifies(Protocol):
    """Checks a token; `TokenVerifier` fits."""

    async def verify(self, token: str) -> Identity: ...


class LivingSessions:
    """The sessions that this process knows to go on, and those that it knows to have ended.

    Both are remembered for as long as a token may live, and no more than `most` of each: of one
    that is forgotten the next request looks again. While Valkey is away a token counts by its
    signature, unless its session is known here to have ended.
    """

    def __init__(
        self,
        sessions: Lookup,
        *,
        most: int = 20_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions = sessions
        self._most = most
        self._monotonic = monotonic
        self._living: OrderedDict[UUID, float] = OrderedDict()
        self._ended: OrderedDict[UUID, float] = OrderedDict()
        self._look_again_at = float("-inf")

    async def require(self, session_id: UUID) -> None:
        """Raises SessionEnded for one that is known to have ended."""
        if session_id in self._ended:
            raise SessionEnded
        if session_id not in self._living:
            await self._look(session_id)

    async def _look(self, session_id: UUID) -> None:
        if self._monotonic() < self._look_again_at:
            return
        try:
            await self._sessions.check(session_id)
        except SessionEnded:
            self.end(session_id)
            raise
        except DependencyUnavailable:
            self._look_again_at = self._monotonic() + _PAUSE_SECONDS
            log.info("ended_sessions_not_asked")
            return
        self._remember(self._living, session_id)

    def end(self, session_id: UUID) -> None:
        """It was heard that this one has ended."""
        self._living.pop(session_id, None)
        self._remember(self._ended, session_id)

    def known(self) -> set[UUID]:
        """Those that are taken to go on: to be looked up now and then, in case that news of one was
        missed."""
        self._forget_old(self._living)
        return set(self._living)

    def _remember(self, kept: OrderedDict[UUID, float], session_id: UUID) -> None:
        kept.setdefault(session_id, self._monotonic())
        self._forget_old(kept)
        if len(kept) > self._most:
            kept.popitem(last=False)

    def _forget_old(self, kept: OrderedDict[UUID, float]) -> None:
        oldest = self._monotonic() - REMEMBERED.total_seconds()
        while kept and next(iter(kept.values())) < oldest:
            kept.popitem(last=False)


class VerifierOfTheLiving:
    """A verifier for which a token ends with its session.

    A program's personal token is asked about at each request anyway, by the gateway: it may be good
    again, or good for less, after what stood for it has ended.
    """

    def __init__(self, verifier: Verifies, sessions: LivingSessions) -> None:
        self._verifier = verifier
        self._sessions = sessions

    async def verify(self, token: str) -> Identity:
        """The identity that the token proves. Raises what the verifier raises, and SessionEnded."""
        identity = await self._verifier.verify(token)
        if not identity.is_program:
            await self._sessions.require(identity.sign_in_id)
        return identity
