"""The voices that a user may use."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from services.voice.actions.remove_voice import RemoveVoice
from services.voice.domain.clone import Clone
from services.voice.domain.ports import NewUnitOfWork, VoiceLibrary
from services.voice.domain.script import includes_voice, smallest_tier_with, speech_allowance
from services.voice.domain.voice import Voice, VoiceId
from services.voice.domain.voice_search import FoundPage, FoundVoice, VoiceQuery
from shared.errors import ExpectedFailure
from shared.identity import OnBehalfOf
from shared.tiers import Tier
from shared.values import dataclass

log = structlog.get_logger(__name__)

_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class ListVoices:
    """What the user's key reaches and their tier includes, page by page.

    Voices that were made for others who share the key are not among them, nor those that the user
    has had deleted, whether or not the vendor knows yet: one that it could not be told of is told
    here once more. That can't be done by the clock, since a key works only while its user is here.
    """

    library: VoiceLibrary
    unit_of_work: NewUnitOfWork
    remove_voice: RemoveVoice

    async def __call__(
        self, query: VoiceQuery, tier: Tier, *, by: OnBehalfOf, unavailable_too: bool = False
    ) -> FoundPage:
        """Raises SpeechNotInTier, or what the vendor raises."""
        speech_allowance(tier)
        async with self.unit_of_work() as work:
            clones = await work.clones.of(by.user_id)
        leaving = [clone for clone in clones if clone.is_leaving]
        await self._remove_some(leaving, by)
        page = await self.library.search(query, by=by)
        async with self.unit_of_work() as work:
            hidden = await work.clones.hidden_from(by.user_id, [each.id for each in page.voices])
        gone = {clone.voice_id for clone in leaving} | set(hidden)
        own = {clone.voice_id for clone in clones if clone.voice_id is not None}
        found = [_found(voice, tier, own) for voice in page.voices if voice.id not in gone]
        return FoundPage(
            [each for each in found if each.included or unavailable_too], page.next_token
        )

    async def _remove_some(self, leaving: Collection[Clone], by: OnBehalfOf) -> None:
        for clone in list(leaving)[:_AT_ONCE]:
            try:
                await self.remove_voice.go_on(clone, by=by)
            except ExpectedFailure as failure:
                log.info("voice_removal_waits", clone_id=str(clone.id), reason=failure.code)
                return


def _found(voice: Voice, tier: Tier, own: Collection[VoiceId]) -> FoundVoice:
    included = includes_voice(tier, voice)
    upgrade = None if included else smallest_tier_with(tier, voice)
    return FoundVoice(voice, included, upgrade, cloned_here=voice.id in own)
