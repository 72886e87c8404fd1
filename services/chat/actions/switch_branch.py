"""Show another branch of a session, and go on from there."""

from __future__ import annotations

from services.chat.domain.conversation import MessageId, SessionId, branch_through
from services.chat.domain.errors import MessageNotFound, SessionNotFound, TurnRunning
from services.chat.domain.ports import NewUnitOfWork
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class SwitchBranch:
    """Make the branch active that holds a message, with the newest that follows it."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, session_id: SessionId, message_id: MessageId, *, by: UserId) -> None:
        """Raises SessionNotFound, TurnRunning or MessageNotFound."""
        async with self.unit_of_work() as work:
            sessions = work.sessions
            if not await sessions.lock(session_id, by):
                raise SessionNotFound(session_id)
            # Asked first: one that ends meanwhile would leave an answer that is in no branch here.
            if await sessions.running_turn(session_id) is not None:
                raise TurnRunning(session_id)
            parents = await sessions.parents(session_id)
            if message_id not in parents:
                raise MessageNotFound(message_id)
            await sessions.activate(session_id, branch_through(parents, message_id))
