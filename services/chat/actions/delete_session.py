"""Delete a session with its messages."""

from __future__ import annotations

from contextlib import suppress

from services.chat.domain.conversation import SessionId
from services.chat.domain.errors import SessionNotFound
from services.chat.domain.ports import LiveChannel, NewUnitOfWork
from services.chat.domain.running_turn import RunningTurns
from services.chat.domain.turn import Outcome
from shared.errors import Unavailable
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class DeleteSession:
    """Delete a session with its messages, and end the answer that is being written in it. What
    was used stays in the ledger."""

    unit_of_work: NewUnitOfWork
    running: RunningTurns
    channel: LiveChannel

    async def __call__(self, session_id: SessionId, *, by: UserId) -> None:
        """Raises SessionNotFound."""
        async with self.unit_of_work() as work:
            # Under the lock no turn begins that nobody would end.
            if not await work.sessions.lock(session_id, by):
                raise SessionNotFound(session_id)
            turn_id = await work.sessions.running_turn(session_id)
            await work.sessions.delete(session_id, by)
        if turn_id is None:
            return
        if (turn := self.running.get(turn_id)) is not None:
            turn.end(Outcome.STOPPED)
            return
        # While the replicas can't hear each other the answer goes on to its end, and is settled.
        with suppress(Unavailable):
            await self.channel.stop(turn_id)
