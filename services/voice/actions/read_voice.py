"""One voice."""

from __future__ import annotations

from dataclasses import dataclass

from services.voice.domain.ports import SpeechProvider
from services.voice.domain.script import refuse_outside
from services.voice.domain.voice import Voice, voice_id_of
from shared.identity import OnBehalfOf
from shared.tiers import Tier


@dataclass(frozen=True, slots=True)
class ReadVoice:
    """A voice that the user's key reaches and their tier includes."""

    provider: SpeechProvider

    async def __call__(self, voice_id: str, tier: Tier, *, by: OnBehalfOf) -> Voice:
        """Raises VoiceNotFound, VoiceNotInTier, or what the vendor raises."""
        voice = await self.provider.voice(voice_id_of(voice_id), by=by)
        refuse_outside(tier, voice)
        return voice
