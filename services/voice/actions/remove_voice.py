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

_AT_ONCE = 50  # a megabyte each at most


@dataclass(frozen=True, slots=True)
class RemoveVoice:
    """Delete a voice that the user had made here.

    It is written down first, so that what the vendor could not be told is told again: by a repeated
    request, or when the user next looks at their voices. Audio that is kept of the user goes at
    once, so that the voice is not heard again out of it. Once the vendor says that the voice is
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
        clone = await self.begin(known, by=by)
        if clone is None:
            await self.voices.voice(known, by=by)
            raise VoiceNotClonedHere(known)
        await self.go_on(clone, by=by)

    async def begin(self, voice_id: VoiceId, *, by: OnBehalfOf) -> Clone | None:
        """Write down that the voice is to go, and let go what was said with it; None for one that
        the user did not have made here."""
        async with self.unit_of_work() as work:
            clone = await work.clones.begin_removal(by.user_id, voice_id, self.clock.now())
        if clone is not None:
            await self._drop_kept(clone)
        return clone

    async def go_on(self, clone: Clone, *, by: OnBehalfOf) -> bool:
        """Tell the vendor, and then forget the voice; answers whether the vendor had it. Raises
        what the vendor raises."""
        voice_id = VoiceId(clone.voice_id or "")
        was_there = await self.maker.remove(voice_id, by=by)
        await self._drop_kept(clone)  # what was said meanwhile
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

    async def _drop_kept(self, clone: Clone) -> None:
        """Audio that was kept to be said again. Nobody can tell whose voice is in it, so all of the
        user's goes."""
        erased = _AT_ONCE
        while erased == _AT_ONCE:
            async with self.unit_of_work() as work:
                erased = await work.kept_speeches.erase_spoken(
                    clone.user_id, before=self.clock.now(), most=_AT_ONCE
                )
