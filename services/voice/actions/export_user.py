"""Everything kept about a user's speeches; of the audio that is kept to be said again, how much."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from operator import attrgetter

from services.voice.domain.clone import Clone
from services.voice.domain.kept_speech import KeptSum
from services.voice.domain.own_settings import OwnSettings
from services.voice.domain.ports import NewUnitOfWork
from services.voice.domain.speech import SpeechId, SpeechRecord
from services.voice.domain.voice import VoiceId
from shared.ids import UserId
from shared.page_by_page import page_by_page
from shared.values import dataclass

_PAGE = 500


@dataclass(frozen=True, slots=True)
class ExportUser:
    """What a user gets who asks for all their data."""

    unit_of_work: NewUnitOfWork

    def speeches(self, user_id: UserId) -> AsyncIterator[Sequence[SpeechRecord]]:
        """The oldest first."""

        async def read(after: SpeechId | None) -> Sequence[SpeechRecord]:
            async with self.unit_of_work() as work:
                return await work.traces.page(user_id, after=after, most=_PAGE)

        return page_by_page(read, _PAGE)

    async def kept(self, user_id: UserId) -> KeptSum:
        """How much audio is kept. Not the audio itself: it is what the user has heard already."""
        async with self.unit_of_work() as work:
            return await work.kept_speeches.sum_of(user_id)

    def own_settings(self, user_id: UserId) -> AsyncIterator[Sequence[OwnSettings]]:
        """How they want voices to speak."""

        async def read(after: VoiceId | None) -> Sequence[OwnSettings]:
            async with self.unit_of_work() as work:
                return await work.own_settings.page(user_id, after=after, most=_PAGE)

        return page_by_page(read, _PAGE, attrgetter("voice_id"))

    async def clones(self, user_id: UserId) -> AsyncIterator[Sequence[Clone]]:
        """The voices that they had made; vendors allow few."""
        async with self.unit_of_work() as work:
            yield await work.clones.of(user_id)
