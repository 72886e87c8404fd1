"""Say once for all how a voice is to speak."""

from __future__ import annotations

from services.voice.actions._hidden_voices import refuse_hidden
from services.voice.domain.own_settings import SettingsChange, refuse_settings_outside
from services.voice.domain.ports import NewUnitOfWork, SpeechProvider
from services.voice.domain.script import refuse_outside
from services.voice.domain.voice import voice_id_of
from shared.clock import Clock
from shared.identity import OnBehalfOf
from shared.tiers import Tier
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ChangeVoiceSettings:
    """Keep the user's own settings of a voice, one by one; None gives a setting back to its
    default."""

    provider: SpeechProvider
    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self, voice_id: str, change: SettingsChange, tier: Tier, *, by: OnBehalfOf
    ) -> None:
        """Raises VoiceNotFound, VoiceNotInTier, SpeakerBoostNotInTier, what the vendor raises."""
        known = voice_id_of(voice_id)
        refuse_settings_outside(tier, change)
        # Nothing is kept of voices that don't exist.
        await refuse_hidden(self.unit_of_work, known, by.user_id)
        refuse_outside(tier, await self.provider.voice(known, by=by))
        if change:
            async with self.unit_of_work() as work:
                await work.own_settings.change(by.user_id, known, change, self.clock.now())
