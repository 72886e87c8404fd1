"""Free idempotency keys a day after their use."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from services.voice.domain.ports import NewUnitOfWork, Speeches
from shared.clock import Clock
from shared.values import dataclass

_MOST_BATCHES = 50


@dataclass(frozen=True, slots=True)
class ForgetIdempotencyKeys:
    """Let go of keys that are older than `kept_for`, those of speeches and of clones, and with them
    of what their orders were known by, in small batches; answers how many."""

    speeches: Speeches
    unit_of_work: NewUnitOfWork
    clock: Clock
    kept_for: timedelta = timedelta(hours=24)

    async def __call__(self, most: int = 500) -> int:
        before = self.clock.now() - self.kept_for
        of_speeches = await _in_batches(partial(self.speeches.forget_keys, before), most)
        return of_speeches + await _in_batches(partial(self._of_clones, before), most)

    async def _of_clones(self, before: datetime, *, most: int) -> int:
        async with self.unit_of_work() as work:
            return await work.clones.forget_keys(before, most=most)


class _Forget(Protocol):
    async def __call__(self, *, most: int) -> int: ...


async def _in_batches(forget: _Forget, most: int) -> int:
    forgotten = 0
    for _ in range(_MOST_BATCHES):
        batch = await forget(most=most)
        forgotten += batch
        if batch < most:
            break
    return forgotten
