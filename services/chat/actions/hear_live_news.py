"""News from the other replicas: turns to stop, turns that began, what is said in rooms."""

from __future__ import annotations

import structlog

from services.chat.actions.follow_turn import FollowTurn
from services.chat.domain.conversation import SessionId
from services.chat.domain.devices import Devices
from services.chat.domain.live import Emitted, LiveNews, Missed, StopAsked, TurnBegan
from services.chat.domain.running_turn import RunningTurns
from services.chat.domain.turn import Outcome, TurnId
from shared.errors import ExpectedFailure
from shared.values import dataclass

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HearLiveNews:
    """Do what is to be done about it on this replica."""

    running: RunningTurns
    devices: Devices
    follow: FollowTurn

    async def __call__(self, news: LiveNews) -> None:
        if isinstance(news, StopAsked):
            turn = self.running.get(news.turn_id)
            if turn is not None:
                turn.end(Outcome.STOPPED)
        elif isinstance(news, TurnBegan):
            await self._began(news.session_id, news.turn_id)
        elif isinstance(news, Emitted):
            for device in self.devices.are_in(news.session_id):
                device.emitted(news.session_id, news.message)
        else:
            await self._look_again(news)

    async def _began(self, session_id: SessionId, turn_id: TurnId) -> None:
        # Our own turns are announced to our own devices without this detour.
        if self.devices.are_in(session_id) and self.running.get(turn_id) is None:
            self.devices.turn_began(await self.follow.begun(session_id, turn_id))

    async def _look_again(self, _missed: Missed) -> None:
        """For turns that began while nothing was heard."""
        for session_id in self.devices.rooms():
            for device in self.devices.are_in(session_id)[:1]:
                try:
                    turn = await self.follow.running_in(session_id, by=device.user_id)
                except ExpectedFailure as failure:
                    log.warning("room_not_looked_at", reason=failure.code)
                    continue
                if turn is not None:
                    self.devices.turn_began(turn)
