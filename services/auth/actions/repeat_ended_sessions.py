"""Keep everybody's knowledge of ended sessions whole."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.domain.ports import NewUnitOfWork, SessionNews
from services.auth.domain.sign_in import ACCESS_OUTLIVES_SESSION
from shared.clock import Clock


@dataclass(frozen=True, slots=True)
class RepeatEndedSessions:
    """Tell again which sessions ended lately: who lost the news, or all of it, has it back."""

    unit_of_work: NewUnitOfWork
    news: SessionNews
    clock: Clock

    async def __call__(self) -> None:
        """Raises DependencyUnavailable."""
        async with self.unit_of_work() as work:
            ended = await work.ended_credentials.since(self.clock.now() - ACCESS_OUTLIVES_SESSION)
        await self.news.repeat(ended)
