"""Tell the sweeper that this replica lives."""

from __future__ import annotations

from datetime import timedelta

from services.voice.domain.ports import Speeches
from services.voice.domain.running_speech import RunningSpeeches
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RenewLeases:
    """Keep the holds of this replica's running speeches. Call it several times within a lease."""

    speeches: Speeches
    running: RunningSpeeches
    clock: Clock
    lease: timedelta

    async def __call__(self) -> None:
        ids = self.running.ids()
        if ids:
            await self.speeches.renew(ids, self.clock.now() + self.lease)
