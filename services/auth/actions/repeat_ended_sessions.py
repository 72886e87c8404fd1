"""Keep everybody's knowledge of ended sessions whole."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.auth.domain.ports import NewUnitOfWork, SessionNews
from services.auth.domain.sign_in import ACCESS_OUTLIVES_SESSION
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RepeatEndedSessions:
    """Tell again which sessions ended lately: who lost the news, or all of it, has it back."""

    unit_of_work: NewUnitOfWork
    news: SessionNews
    clock: Clock

    async def __call__(self) -> None:
        """Raises DependencyUnavailable."""
        ended = await self._ended_lately()
        await self.news.repeat(ended)
        # What was taken back while they were told.
        if gone := set(ended).difference(await self._ended_lately()):
            await self.news.take_back(gone)
            # And what has ended anew while that was taken back.
            await self.news.repeat(gone.intersection(await self._ended_lately()))

    async def _ended_lately(self) -> Sequence[UUID]:
        async with self.unit_of_work() as work:
            return await work.ended_credentials.since(self.clock.now() - ACCESS_OUTLIVES_SESSION)
