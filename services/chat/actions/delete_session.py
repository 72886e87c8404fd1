"""Delete a conversation with its messages."""

from __future__ import annotations

from dataclasses import dataclass

from services.chat.domain.conversation import SessionId
from services.chat.domain.errors import SessionNotFound
from services.chat.domain.ports import NewUnitOfWork
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class DeleteSession:
    """Delete a conversation with its messages. What was used stays in the ledger."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, session_id: SessionId, *, by: UserId) -> None:
        """Raises SessionNotFound."""
        async with self.unit_of_work() as work:
            if not await work.sessions.delete(session_id, by):
                raise SessionNotFound(session_id)
