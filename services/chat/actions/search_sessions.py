"""Find sessions by what was said in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.chat.domain.conversation import SessionId
from services.chat.domain.ports import NewUnitOfWork
from services.chat.domain.search import Found, Terms
from shared.ids import UserId
from shared.values import dataclass

_LOOKED_THROUGH = 200


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found, and the place in the list of sessions up to which was looked; None when that
    is its end."""

    found: Sequence[Found]
    looked_to: tuple[datetime, SessionId] | None


@dataclass(frozen=True, slots=True)
class SearchSessions:
    """The user's sessions in whose name or in one of whose shown messages all terms stand, the
    one used last first.

    A page looks through two hundred sessions at most, so that it takes as long for whoever has
    written much as for others; it may hold less than asked for, or nothing, and not be the last.
    """

    unit_of_work: NewUnitOfWork
    looked_through: int = _LOOKED_THROUGH

    async def __call__(
        self,
        user_id: UserId,
        terms: Terms,
        *,
        most: int,
        before: tuple[datetime, SessionId] | None,
        provider: str | None = None,
    ) -> SearchResult:
        async with self.unit_of_work() as work:
            places = await work.sessions.places(
                user_id, most=self.looked_through, before=before, provider=provider
            )
            found = await work.sessions.search([id_ for _, id_ in places], terms, most=most)
        if len(found) == most:
            last = found[-1].session
            return SearchResult(found, (last.updated_at, last.id))
        return SearchResult(found, places[-1] if len(places) == self.looked_through else None)
