"""One voice."""

from __future__ import annotations

from services.voice.actions._hidden_voices import refuse_hidden
from services.voice.domain.ports import NewUnitOfWork, SpeechProvider
from services.voice.domain.script import refuse_outside
from services.voice.domain.voice import Voice, voice_id_of
from shared.identity import OnBehalfOf
from shared.tiers import Tier
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ReadVoice:
    """A voice that the user's key reaches and their tier includes. Not one that was made for
    somebody else, nor one that was deleted, whether or not the vendor knows yet."""

    provider: SpeechProvider
    unit_of_work: NewUnitOfWork

    async def __call__(self, voice_id: str, tier: Tier, *, by: OnBehalfOf) -> Voice:
        """Raises VoiceNotFound, VoiceNotInTier, or what the vendor raises."""
        voice = await self.provider.voice(voice_id_of(voice_id), by=by)
        await refuse_hidden(self.unit_of_work, voice.id, by.user_id)
        refuse_outside(tier, voice)
        return voice
