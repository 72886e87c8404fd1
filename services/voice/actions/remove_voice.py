"""Have a cloned voice deleted, here and at the vendor."""

from __future__ import annotations

from dataclasses import dataclass

from services.voice.domain.clone import Clone
from services.voice.domain.errors import VoiceNotClonedHere
from services.voice.domain.ports import NewUnitOfWork, SpeechProvider, VoiceMaker
from services.voice.domain.voice import VoiceId, voice_id_of
from shared.clock import Clock
from shared.events.voice import VoiceRemoved
from shared.identity import OnBehalfOf


@dataclass(frozen=True, slots=True)
class RemoveVoice:
    """Delete a voice that the user had made here.

    It is written down first, so that what the vendor could not be told is told again: by a repeated
    request, or when the user next looks at their voices. Once the vendor says that the voice is
    gone, or was already, its row goes too and the audit trail hears of it.
    """

    maker: VoiceMaker
    voices: SpeechProvider
    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, voice_id: str, *, by: OnBehalfOf) -> None:
        """Raises VoiceNotFound, VoiceNotClonedHere, or what the vendor raises; in the last case the
        removal stays asked for."""
        known = voice_id_of(voice_id)
        async with self.unit_of_work() as work:
            clone = await work.clones.begin_removal(by.user_id, known, self.clock.now())
        if clone is None:
            await self.voices.voice(known, by=by)
            raise VoiceNotClonedHere(known)
        await self.go_on(clone, by=by)

    async def go_on(self, clone: Clone, *, by: OnBehalfOf) -> bool:
        """Tell the vendor, and then forget the voice; answers whether the vendor had it. Raises
        what the vendor raises."""
        voice_id = VoiceId(clone.voice_id or "")
        was_there = await self.maker.remove(voice_id, by=by)
        async with self.unit_of_work() as work:
            if not await work.clones.forget(clone.id):
                return True  # another request was quicker
            await work.own_settings.drop(clone.user_id, voice_id)
            told = VoiceRemoved(
                user_id=clone.user_id,
                clone_id=clone.id,
                provider=clone.provider,
                voice_id=voice_id,
            )
            work.publish(told, subject=clone.user_id, tier=clone.tier)
        return was_there
