"""Let go of voices whose making nobody saw to its end."""

from __future__ import annotations

from datetime import timedelta

from services.voice.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.values import dataclass

# Longer than any vendor is waited for.
_PATIENCE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class ForgetLostClones:
    """For replicas that died over it: the vendor may have made the voice or not, which its user can
    see in the list of voices. Their idempotency keys are free again. Answers how many."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, most: int = 1_000) -> int:
        async with self.unit_of_work() as work:
            return await work.clones.forget_lost(self.clock.now() - _PATIENCE, most=most)
