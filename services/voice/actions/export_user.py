"""Everything kept about a user's speeches: neither text nor audio, those are not kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from services.voice.domain.ports import NewUnitOfWork
from services.voice.domain.speech import SpeechRecord
from shared.ids import UserId

_PAGE = 500


@dataclass(frozen=True, slots=True)
class ExportUser:
    """What a user gets who asks for all their data."""

    unit_of_work: NewUnitOfWork

    async def speeches(self, user_id: UserId) -> AsyncIterator[Sequence[SpeechRecord]]:
        """Page by page, the oldest first: no transaction waits for a slow reader."""
        after = None
        while True:
            async with self.unit_of_work() as work:
                page = await work.traces.page(user_id, after=after, most=_PAGE)
            yield page
            if len(page) < _PAGE:
                return
            after = page[-1].id
