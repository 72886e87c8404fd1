"""Work on the ledger that comes beside what everybody waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from shared.values import dataclass

WITHIN = timedelta(seconds=50)
"""How long a job of every minute goes on."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Page after page, with a rest after each as long as it took: the intake, and who reads what is
    told of the pages, have the database for half of the time at least."""

    stopwatch: Callable[[], float] = time.monotonic
    rest: Callable[[float], Awaitable[None]] = asyncio.sleep

    def begin(self, within: timedelta) -> Pace:
        """For some time from now on."""
        now = self.stopwatch()
        return Pace(self, now + within.total_seconds(), now)


@dataclass(slots=True)
class Pace:
    """How a piece of such work is getting on."""

    rhythm: Rhythm
    ends: float
    began: float

    async def goes_on(self) -> bool:
        """Whether there is time for another page; rests before it."""
        now = self.rhythm.stopwatch()
        if now >= self.ends:
            return False
        await self.rhythm.rest(now - self.began)
        self.began = self.rhythm.stopwatch()
        return True
