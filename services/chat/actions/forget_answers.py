"""Forget what repeated requests are answered with, a day later."""

from __future__ import annotations

from datetime import timedelta

from services.chat.domain.ports import Turns
from shared.clock import Clock
from shared.values import dataclass

_MOST_BATCHES = 50


@dataclass(frozen=True, slots=True)
class ForgetAnswers:
    """Free idempotency keys that are older than `kept_for`, in small batches; answers how many.

    The answers of sessions stay, as messages; those of calls without a session exist for this
    alone.
    """

    turns: Turns
    clock: Clock
    kept_for: timedelta = timedelta(hours=24)

    async def __call__(self, most: int = 500) -> int:
        before = self.clock.now() - self.kept_for
        forgotten = 0
        for _ in range(_MOST_BATCHES):
            batch = await self.turns.forget_answers(before, most=most)
            forgotten += batch
            if batch < most:
                break
        return forgotten
