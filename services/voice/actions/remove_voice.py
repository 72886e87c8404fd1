"""Have a cloned voice deleted, here and at the vendor."""

from __future__ import annotations

from uuid import UUID

from services.voice.actions._hidden_voices import refuse_hidden
from services.voice.domain.clone import Clone
from services.voice.domain.errors import VoiceNotClonedHere, VoiceOnAnotherKey
from services.voice.domain.ports import NewUnitOfWork, SpeechProvider, UnitOfWork, VoiceMaker
from services.voice.domain.voice import VoiceId, voice_id_of
from shared.clock import Clock
from shared.events.voice import VoiceRemoved
from shared.identity import OnBehalfOf
from shared.values import dataclass

_AT_ONCE = 50  # a megabyte each at most


@dataclass(frozen=True, slots=True)
class RemoveVoice:
    """Delete a voice that the user had made here, or that an organisation's key made.

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
        """Raises VoiceNotFound, VoiceNotClonedHere, and what `go_on` raises; then the removal stays
        asked for."""
        known = voice_id_of(voice_id)
        clone = await self.begin(known, by=by)
        if clone is None:
            await refuse_hidden(self.unit_of_work, known, by.user_id)
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

    async def begin_for(self, organisation_id: UUID, voice_id: VoiceId) -> Clone | None:
        """The same of a voice that the organisation's key made, whosever it is."""
        async with self.unit_of_work() as work:
            clone = await work.clones.begin_removal_for(organisation_id, voice_id, self.clock.now())
        if clone is not None:
            await self._drop_kept(clone)
        return clone

    async def go_on(self, clone: Clone, *, by: OnBehalfOf) -> bool:
        """Tell the vendor, and then forget the voice; answers whether it is known to be gone there:
        one that the vendor does not find may be in the account of another key of the user's.

        Raises VoiceOnAnotherKey and what the vendor raises."""
        voice_id = VoiceId(clone.voice_id or "")
        was_there = await self.maker.remove(voice_id, by=by)
        organisation_id = clone.organisation_id
        was_asked = organisation_id in by.key.owners(clone.provider)
        if organisation_id is not None and not (was_there or was_asked):
            raise VoiceOnAnotherKey(voice_id, organisation_id)
        await self._drop_kept(clone)  # what was said meanwhile
        async with self.unit_of_work() as work:
            if not await work.clones.forget(clone.id):
                return True  # another request was quicker
            await self._tell(work, clone, voice_id, by)
        return was_there or organisation_id is not None

    async def _tell(
        self, work: UnitOfWork, clone: Clone, voice_id: VoiceId, by: OnBehalfOf
    ) -> None:
        """Of a user who was deleted nothing is kept that could be told of."""
        if clone.user_id is None:
            return
        await work.own_settings.drop(clone.user_id, voice_id)
        told = VoiceRemoved(
            user_id=clone.user_id,
            clone_id=clone.id,
            provider=clone.provider,
            voice_id=voice_id,
            removed_by=by.user_id,
        )
        work.publish(told, subject=clone.user_id, tier=clone.tier)

    async def _drop_kept(self, clone: Clone) -> None:
        """Audio that was kept to be said again. Nobody can tell whose voice is in it, so all of the
        user's goes."""
        if clone.user_id is None:
            return
        erased = _AT_ONCE
        while erased == _AT_ONCE:
            async with self.unit_of_work() as work:
                erased = await work.kept_speeches.erase_spoken(
                    clone.user_id, before=self.clock.now(), most=_AT_ONCE
                )
