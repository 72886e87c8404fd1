"""How a user wants a voice to speak, for a live speech that does not say."""

from __future__ import annotations

from services.voice.domain.errors import VoiceNotFound
from services.voice.domain.kept_speech import Recollections
from services.voice.domain.offline_engine import OFFLINE_ENGINE, provider_of
from services.voice.domain.script import SettingsWish
from services.voice.domain.voice import voice_id_of
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RecallSettings:
    """The user's own settings of a voice that they may use; nothing said for one that they have
    left alone."""

    recollections: Recollections

    async def __call__(self, voice_id: str, user_id: UserId) -> SettingsWish:
        """Raises VoiceNotFound, also for what is no voice's id, and Unavailable."""
        if provider_of(voice_id) == OFFLINE_ENGINE:
            return SettingsWish()  # of what could be set, it has nothing
        found = await self.recollections.of(user_id, voice_id_of(voice_id))
        if found.is_hidden:
            raise VoiceNotFound(voice_id)
        return found.own
