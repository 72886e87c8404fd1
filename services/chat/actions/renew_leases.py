"""Tell the sweeper that this replica lives."""

from __future__ import annotations

from datetime import timedelta

from services.chat.domain.ports import Turns
from services.chat.domain.running_turn import RunningTurns
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RenewLeases:
    """Keep the holds of this replica's running turns, and note how far each answer has come. Call
    it several times within a lease."""

    turns: Turns
    running: RunningTurns
    clock: Clock
    lease: timedelta

    async def __call__(self) -> None:
        if progress := self.running.progress():
            await self.turns.renew(progress, self.clock.now() + self.lease)
