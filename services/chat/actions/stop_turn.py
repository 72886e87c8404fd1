"""End an answer while it is written, wherever it is written."""

from __future__ import annotations

import asyncio

from services.chat.actions.follow_turn import ending
from services.chat.domain.conversation import SessionId
from services.chat.domain.errors import NoRunningTurn, SessionNotFound, StopUnconfirmed
from services.chat.domain.ports import LiveChannel, Standings
from services.chat.domain.running_turn import RunningTurn, RunningTurns
from services.chat.domain.turn import Outcome, TurnId
from services.chat.domain.turn_events import Answered, Broken
from shared.ids import UserId
from shared.values import dataclass

_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.1
_TELL_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StopTurn:
    """Stop a session's running answer and tell what became of it."""

    standings: Standings
    running: RunningTurns
    channel: LiveChannel

    async def __call__(self, session_id: SessionId, *, by: UserId) -> Answered | Broken:
        """Raises SessionNotFound, NoRunningTurn, or StopUnconfirmed (Unavailable) when the replica
        that writes it does not say within seconds that it has ended."""
        standing = await self.standings.standing(session_id, by)
        if standing is None:
            raise SessionNotFound(session_id)
        turn = standing.turn
        if turn is None or turn.settled:
            raise NoRunningTurn(session_id)
        here = self.running.get(turn.hold.id)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                if here is not None:
                    return await self._stopped_here(here)
                return await self._stopped_elsewhere(session_id, by, turn.hold.id)
        except TimeoutError as error:
            raise StopUnconfirmed from error

    async def _stopped_here(self, turn: RunningTurn) -> Answered | Broken:
        turn.end(Outcome.STOPPED)
        return await turn.result()

    async def _stopped_elsewhere(
        self, session_id: SessionId, by: UserId, turn_id: TurnId
    ) -> Answered | Broken:
        while True:
            await self.channel.stop(turn_id)
            for _ in range(round(_TELL_AGAIN_SECONDS / _LOOK_SECONDS)):
                await asyncio.sleep(_LOOK_SECONDS)
                standing = await self.standings.standing(session_id, by, turn_id)
                if standing is None or standing.turn is None:
                    raise SessionNotFound(session_id)
                if standing.turn.settled:
                    last = ending(standing.turn)[-1]
                    assert isinstance(last, Answered | Broken)
                    return last
