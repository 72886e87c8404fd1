"""One voice."""

from __future__ import annotations

from dataclasses import dataclass

from services.voice.domain.errors import VoiceNotFound
from services.voice.domain.ports import NewUnitOfWork, SpeechProvider
from services.voice.domain.script import refuse_outside
from services.voice.domain.voice import Voice, voice_id_of
from shared.identity import OnBehalfOf
from shared.tiers import Tier


@dataclass(frozen=True, slots=True)
class ReadVoice:
    """A voice that the user's key reaches and their tier includes, and that they have not had
    deleted, whether or not the vendor knows yet."""

    provider: SpeechProvider
    unit_of_work: NewUnitOfWork

    async def __call__(self, voice_id: str, tier: Tier, *, by: OnBehalfOf) -> Voice:
        """Raises VoiceNotFound, VoiceNotInTier, or what the vendor raises."""
        voice = await self.provider.voice(voice_id_of(voice_id), by=by)
        async with self.unit_of_work() as work:
            clones = await work.clones.of(by.user_id)
        if any(clone.voice_id == voice.id and clone.is_leaving for clone in clones):
            raise VoiceNotFound(voice.id)
        refuse_outside(tier, voice)
        return voice
