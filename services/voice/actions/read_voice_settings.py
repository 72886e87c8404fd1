"""How a voice speaks for a user, and what that follows from."""

from __future__ import annotations

from services.voice.actions._check_voice import check_voice
from services.voice.actions._hidden_voices import refuse_hidden
from services.voice.domain.own_settings import SettingsOverview, defaults_of, effective
from services.voice.domain.ports import NewUnitOfWork, SpeechProvider
from services.voice.domain.voice import voice_id_of
from shared.identity import OnBehalfOf
from shared.tiers import Tier
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ReadVoiceSettings:
    """The user's own settings over the tier's defaults, and beside them those that are stored with
    the voice at the vendor, which its maker recommends."""

    provider: SpeechProvider
    unit_of_work: NewUnitOfWork

    async def __call__(self, voice_id: str, tier: Tier, *, by: OnBehalfOf) -> SettingsOverview:
        """Raises VoiceNotFound, VoiceNotInTier, or what the vendor raises."""
        known = voice_id_of(voice_id)
        await refuse_hidden(self.unit_of_work, known, by.user_id)
        await check_voice(self.provider, known, tier, by=by)
        recommended = await self.provider.settings_of(known, by=by)
        async with self.unit_of_work() as work:
            own = await work.own_settings.of(by.user_id, known)
        return SettingsOverview(effective(own, tier), defaults_of(tier), recommended, own)
