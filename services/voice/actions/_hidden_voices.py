"""Voices that a user's key may reach and that are none of theirs."""

from __future__ import annotations

from services.voice.domain.errors import VoiceNotFound
from services.voice.domain.ports import NewUnitOfWork
from services.voice.domain.voice import VoiceId
from shared.ids import UserId


async def refuse_hidden(unit_of_work: NewUnitOfWork, voice_id: VoiceId, user_id: UserId) -> None:
    """Raises VoiceNotFound for a voice that was made here for somebody else, who shares the key, or
    that is being removed."""
    async with unit_of_work() as work:
        if await work.clones.hidden_from(user_id, [voice_id]):
            raise VoiceNotFound(voice_id)
