"""Hear who sits where."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.keyvault.domain.organisation import SeatNews
from services.keyvault.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.values import dataclass

# Long after the last access token that is older than the news.
_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class NoteSeats:
    """Keep the last word on each seat; nothing is kept of a user who was deleted."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, news: Sequence[SeatNews]) -> None:
        async with self.unit_of_work() as work:
            gone = await work.forgotten.among([told.user_id for told in news])
            await work.organisations.note_seats([told for told in news if told.user_id not in gone])


@dataclass(frozen=True, slots=True)
class DropOldSeats:
    """Let go of news that every access token about is younger than."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> None:
        async with self.unit_of_work() as work:
            await work.organisations.drop_seats(before=self.clock.now() - _KEPT)
