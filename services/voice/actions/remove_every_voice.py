"""Have all voices deleted that a user had made, while there is still a key that can do it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import structlog

from services.voice.actions.remove_voice import RemoveVoice
from services.voice.domain.clone import Clone
from services.voice.domain.ports import NewUnitOfWork
from services.voice.domain.voice import VoiceId
from shared.errors import DependencyUnavailable, ExpectedFailure
from shared.identity import OnBehalfOf
from shared.values import dataclass

log = structlog.get_logger(__name__)

_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class LeftVoices:
    """What could not be deleted at the vendor; not all of it, where one is being made just now."""

    voices: Collection[VoiceId]
    are_all: bool


@dataclass(frozen=True, slots=True)
class RemoveEveryVoice:
    """Their user is about to leave, and waits for it: what the vendor can't be told within
    `seconds` stays in the account of the key that made it, their own or an organisation's."""

    remove_voice: RemoveVoice
    unit_of_work: NewUnitOfWork
    seconds: float = 6.0

    async def __call__(self, *, by: OnBehalfOf) -> LeftVoices:
        """Raises Unavailable while it isn't known which there are."""
        try:
            async with asyncio.timeout(self.seconds):
                async with self.unit_of_work() as work:
                    clones = await work.clones.of(by.user_id)
        except TimeoutError:
            raise DependencyUnavailable("database") from None
        left = {clone.voice_id for clone in clones if clone.voice_id is not None}
        await self._remove([clone for clone in clones if clone.voice_id], left, by)
        if left:
            log.warning("clones_left_behind", number=len(left))
        return LeftVoices(left, are_all=all(clone.voice_id for clone in clones))

    async def _remove(self, made: Sequence[Clone], left: set[VoiceId], by: OnBehalfOf) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def remove(clone: Clone) -> None:
            assert clone.voice_id is not None
            async with gate:
                if await self._is_removed(clone.voice_id, by):
                    left.discard(clone.voice_id)

        try:
            async with asyncio.timeout(self.seconds):
                await asyncio.gather(*map(remove, made))
        except TimeoutError:
            log.warning("clones_not_removed_in_time")

    async def _is_removed(self, voice_id: VoiceId, by: OnBehalfOf) -> bool:
        try:
            clone = await self.remove_voice.begin(voice_id, by=by)
            # Another request of the user's may have been quicker. One that the vendor does not find
            # with the key of today may be in the account of another key.
            return clone is None or await self.remove_voice.go_on(clone, by=by)
        except ExpectedFailure as failure:
            log.warning("clone_not_removed", reason=failure.code)
        except Exception:  # the others are removed all the same
            log.exception("clone_not_removed")
        return False
