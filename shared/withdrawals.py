"""Take back what may have been written, when nobody can tell whether it was."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import field
from typing import Generic, Protocol, TypeVar
from uuid import UUID

import structlog

from shared.errors import DependencyUnavailable, Unavailable
from shared.values import dataclass

log = structlog.get_logger(__name__)

MOST = 1_000

# When the storage has done what it was asked for: at once, after a moment, or after it waited for
# somebody else. Later, it never will; but while it is away it does nothing.
_WRITTEN_AFTER_SECONDS = (0.2, 1.0, 5.0)
_PACE_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 5.0
# Whoever was left last has had all their looks by then.
_DRAIN_SECONDS = 8.0


class Named(Protocol):
    """What has an id."""

    @property
    def id(self) -> UUID: ...


H = TypeVar("H", bound=Named)


@dataclass(slots=True)
class _Left(Generic[H]):
    """A hold that was left, and when to look for it next."""

    hold: H
    looks: int = 0
    due: float = field(default_factory=lambda: time.monotonic() + _WRITTEN_AFTER_SECONDS[0])

    def was_not_there(self) -> bool:
        """Whether it is worth another look."""
        self.looks += 1
        if self.looks == len(_WRITTEN_AFTER_SECONDS):
            return False
        self.due = time.monotonic() + _WRITTEN_AFTER_SECONDS[self.looks]
        return True


class Withdrawals(ABC, Generic[H]):
    """Whoever stops waiting for the storage does not know whether their hold is written.

    One task takes them back, one after the other: a database that is away, just when most are left,
    is asked now and then, and not by each of them. Of more than `most` the sweeper has the rest.
    """

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._left: deque[_Left[H]] = deque()
        # The event loop keeps only weak references to tasks; this one must live until it ends.
        self.work: asyncio.Task[None] | None = None

    def __call__(self, hold: H, failure: BaseException) -> None:
        """Do it in the background, where after this failure it may be written."""
        if not _may_be_written(failure) or len(self._left) >= self._most:
            return
        self._left.append(_Left(hold))
        if self.work is None:
            self.work = asyncio.ensure_future(self._work_off())

    async def drained(self, seconds: float = _DRAIN_SECONDS) -> None:
        """Wait until nothing is left; what is then is the sweeper's."""
        if self.work is None:
            return
        _, working = await asyncio.wait({self.work}, timeout=seconds)
        for work in working:
            work.cancel()
            await asyncio.wait({work})
            log.warning("holds_left_unwithdrawn", holds=len(self._left))

    @abstractmethod
    async def take_back(self, hold: H) -> bool:
        """One try; False when it isn't there. Raises Unavailable."""

    async def _work_off(self) -> None:
        wait = _PACE_SECONDS
        try:
            while self._left:
                await asyncio.sleep(wait)
                is_there = await self._look()
                wait = _PACE_SECONDS if is_there else min(wait * 2, _LONGEST_WAIT_SECONDS)
        finally:
            self.work = None

    async def _look(self) -> bool:
        """Take back those whose time has come; False when the storage is away."""
        for _ in range(len(self._left)):
            left = self._left.popleft()
            if left.due > time.monotonic():
                self._left.append(left)
                continue
            try:
                was_there = await self.take_back(left.hold)
            except asyncio.CancelledError:
                self._left.append(left)
                raise
            except Unavailable:
                # To the end: one that alone can't be taken back must not keep the others.
                self._left.append(left)
                return False
            except Exception:
                log.exception("hold_not_withdrawn", hold_id=str(left.hold.id))
                continue
            if not was_there and left.was_not_there():
                self._left.append(left)
        return True


def _may_be_written(failure: BaseException) -> bool:
    if isinstance(failure, DependencyUnavailable):
        return not failure.did_nothing
    return isinstance(failure, asyncio.CancelledError)
