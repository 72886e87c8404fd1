"""Statements that are asked for at the same time, run as one.

A statement with its commit costs client and server nearly the same for one row as for ten. So what
comes while others are under way waits for one of them, and then goes along with all that came
meanwhile.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

import structlog

from shared.errors import DependencyUnavailable

log = structlog.get_logger(__name__)

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

_Waiting: TypeAlias = tuple[Asked, "asyncio.Future[Answer]"]

_MOST = 32
# Two may be under way, so that hardly anybody waits where few come; only one where they come closer
# than this, since there company spares more time than it takes.
_CROWDED_SECONDS = 0.005
_WEIGHT = 0.1  # of the newest distance between two in the running mean
# One that has stopped (its connection has died, a lock holds it) keeps nobody else for longer.
_PATIENCE_SECONDS = 0.02


class Together(Generic[Asked, Answer]):
    """Asks alone while little is under way, and together for those who came meanwhile.

    `together` answers one for each, in their order, all or none of them in effect. Where it fails
    by the fault of one, each is asked alone and gets its own answer; that a dependency is away is
    the answer to all. Who is cancelled takes nobody along: what is asked for them alone ends, and
    what is asked together goes on.
    """

    def __init__(
        self,
        alone: Callable[[Asked], Awaitable[Answer]],
        together: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer]]],
        *,
        most: int = _MOST,
        patience_seconds: float = _PATIENCE_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._alone = alone
        self._together = together
        self._most = most
        self._now = now
        self._came_at = float("-inf")
        self._distance = 1.0
        self._patience_seconds = patience_seconds
        self._under_way = 0
        self._generation = 0
        self._waiting: list[_Waiting[Asked, Answer]] = []
        self._patience: asyncio.TimerHandle | None = None
        self._flights: set[asyncio.Task[None]] = set()

    async def __call__(self, asked: Asked) -> Answer:
        """The answer to this one, or what it fails with."""
        self._note_distance()
        if not self._has_room():
            return await self._in_company(asked)
        generation = self._begun()
        try:
            return await self._alone(asked)
        finally:
            self._ended(generation)

    def _note_distance(self) -> None:
        now = self._now()
        self._distance += _WEIGHT * (min(now - self._came_at, 1.0) - self._distance)
        self._came_at = now

    def _has_room(self) -> bool:
        return self._under_way < (1 if self._distance < _CROWDED_SECONDS else 2)

    async def _in_company(self, asked: Asked) -> Answer:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((asked, answer))
        if len(self._waiting) >= self._most:
            self._depart()
        elif self._patience is None:
            self._patience = loop.call_later(self._patience_seconds, self._depart_at_last)
        return await answer

    def _begun(self) -> int:
        self._under_way += 1
        return self._generation

    def _ended(self, generation: int) -> None:
        if generation == self._generation:
            self._under_way -= 1
        if self._waiting and self._has_room():
            self._depart()

    def _depart_at_last(self) -> None:
        # What is under way for so long is waited for no more, by those who come later neither.
        self._generation += 1
        self._under_way = 0
        self._depart()

    def _depart(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        # Whoever gave up meanwhile is not asked for.
        aboard = [waiting for waiting in self._waiting if not waiting[1].done()]
        self._waiting = []
        if aboard:
            flight = asyncio.get_running_loop().create_task(
                self._flight(aboard, self._begun()),
                # It is nobody's request.
                context=contextvars.Context(),
            )
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    async def _flight(self, aboard: Sequence[_Waiting[Asked, Answer]], generation: int) -> None:
        try:
            if len(aboard) == 1:
                await self._answered_alone(*aboard[0])
            else:
                await self._answered_together(aboard)
        finally:
            for _, answer in aboard:
                answer.cancel()  # in vain, unless this flight itself was cancelled
            self._ended(generation)

    async def _answered_together(self, aboard: Sequence[_Waiting[Asked, Answer]]) -> None:
        try:
            answers = await self._together([asked for asked, _ in aboard])
            answered = list(zip(aboard, answers, strict=True))
        except DependencyUnavailable as error:
            dependency, did_nothing = str(error.facts["dependency"]), error.did_nothing
            for _, waiting in aboard:
                _fail(waiting, DependencyUnavailable(dependency, did_nothing=did_nothing))
        except Exception as error:
            log.warning("asked_one_by_one", count=len(aboard), reason=type(error).__name__)
            ends = (self._answered_alone(*each) for each in aboard)
            await asyncio.gather(*ends, return_exceptions=True)
        else:
            for (_, waiting), answer in answered:
                if not waiting.done():
                    waiting.set_result(answer)

    async def _answered_alone(self, asked: Asked, waiting: asyncio.Future[Answer]) -> None:
        if waiting.done():
            return
        # Nobody else waits for this one: it ends with whoever gives up.
        leave = partial(_end_unless_wanted, asyncio.current_task())
        waiting.add_done_callback(leave)
        try:
            answer = await self._alone(asked)
        except Exception as error:
            _fail(waiting, error)
        except asyncio.CancelledError:
            if not waiting.cancelled():
                raise
        else:
            if not waiting.done():
                waiting.set_result(answer)
        finally:
            waiting.remove_done_callback(leave)


def _end_unless_wanted(asking: asyncio.Task[Any] | None, waiting: asyncio.Future[Answer]) -> None:
    if asking is not None and waiting.cancelled():
        asking.cancel()


def _fail(waiting: asyncio.Future[Answer], error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
