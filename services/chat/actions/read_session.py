"""One session."""

from __future__ import annotations

from services.chat.domain.conversation import ChatSession, SessionId
from services.chat.domain.errors import SessionNotFound
from services.chat.domain.ports import NewUnitOfWork
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ReadSession:
    """One session of this user."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, session_id: SessionId, *, by: UserId) -> ChatSession:
        """Raises SessionNotFound."""
        async with self.unit_of_work() as work:
            session = await work.sessions.get(session_id, by)
        if session is None:
            raise SessionNotFound(session_id)
        return session
