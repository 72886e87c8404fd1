"""Let go the audio that is kept to be said again, once it is old."""

from __future__ import annotations

from datetime import timedelta

from services.voice.domain.kept_speech import KeptSpeeches
from shared.clock import Clock
from shared.values import dataclass

_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class DropOldSpeech:
    """By age alone; what a user has too much of goes when more is kept."""

    kept_speeches: KeptSpeeches
    clock: Clock
    age: timedelta

    async def __call__(self) -> None:
        before = self.clock.now() - self.age
        while await self.kept_speeches.drop_before(before, most=_AT_ONCE) == _AT_ONCE:
            pass
