"""Have the places in the limits remembered that are still needed."""

from __future__ import annotations

from services.voice.domain.running_speech import RunningSpeeches
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class KeepPlaces:
    """Keep those of this replica's running speeches. They are forgotten after an hour, and then
    neither given back nor settled: call it several times within one."""

    running: RunningSpeeches

    async def __call__(self) -> None:
        for reservation in self.running.reservations():
            await reservation.keep()
