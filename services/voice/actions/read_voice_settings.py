"""How a voice is recommended to speak."""

from __future__ import annotations

from dataclasses import dataclass

from services.voice.domain.ports import SpeechProvider
from services.voice.domain.script import has_every_voice, refuse_outside
from services.voice.domain.voice import VoiceSettings, voice_id_of
from shared.identity import OnBehalfOf
from shared.tiers import Tier


@dataclass(frozen=True, slots=True)
class ReadVoiceSettings:
    """The settings stored with a voice at the vendor, which its maker recommends."""

    provider: SpeechProvider

    async def __call__(self, voice_id: str, tier: Tier, *, by: OnBehalfOf) -> VoiceSettings:
        """Raises VoiceNotFound, VoiceNotInTier, or what the vendor raises."""
        known = voice_id_of(voice_id)
        if not has_every_voice(tier):
            refuse_outside(tier, await self.provider.voice(known, by=by))
        return await self.provider.settings_of(known, by=by)
