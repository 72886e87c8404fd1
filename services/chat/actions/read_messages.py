"""What was said in a session."""

from __future__ import annotations

from collections.abc import Sequence

from services.chat.domain.conversation import Message, MessageId, SessionId
from services.chat.domain.errors import SessionNotFound
from services.chat.domain.ports import NewUnitOfWork
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ReadMessages:
    """What was said in a session, oldest first: on the active branch, or on every one."""

    unit_of_work: NewUnitOfWork

    async def __call__(
        self,
        session_id: SessionId,
        *,
        by: UserId,
        most: int,
        after: MessageId | None,
        every_branch: bool = False,
    ) -> Sequence[Message]:
        """Raises SessionNotFound."""
        async with self.unit_of_work() as work:
            if await work.sessions.get(session_id, by) is None:
                raise SessionNotFound(session_id)
            return await work.sessions.messages(
                session_id, most=most, after=after, every_branch=every_branch
            )
