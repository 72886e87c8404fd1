"""The voices that a user may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.voice.domain.ports import SpeechProvider
from services.voice.domain.script import includes_voice
from services.voice.domain.voice import Voice
from shared.identity import OnBehalfOf
from shared.tiers import Tier


@dataclass(frozen=True, slots=True)
class ListVoices:
    """What the user's key reaches and their tier includes."""

    provider: SpeechProvider

    async def __call__(self, tier: Tier, *, by: OnBehalfOf) -> Sequence[Voice]:
        """Raises SpeechNotInTier, or what the vendor raises."""
        voices = await self.provider.voices(by=by)
        return [voice for voice in voices if includes_voice(tier, voice)]
