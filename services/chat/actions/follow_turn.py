"""Follow an answer while it is written, or see it afterwards: from any replica, any device."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.chat.domain.conversation import Message, SessionId
from services.chat.domain.errors import AnswerLost, NoTurn, SessionNotFound
from services.chat.domain.live import LAST_EVENTS, Encode, HeardTurn, LiveEvent, LiveTurn
from services.chat.domain.ports import EarlierTurn, Standing, Standings, TurnLog
from services.chat.domain.running_turn import RunningTurns
from services.chat.domain.turn import Outcome, TurnId
from services.chat.domain.turn_events import (
    Answered,
    Broken,
    CallsTool,
    Delta,
    Started,
    TurnEvent,
    UsageTold,
)
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass

# The log is written a little after the fact; what is missing for longer does not come any more.
_LOG_LAGS = timedelta(seconds=2)
_ANSWERS = frozenset({Outcome.DONE.value, Outcome.STOPPED.value, Outcome.CLIENT_GONE.value})


@dataclass(frozen=True, slots=True)
class FollowTurn:
    """A session's latest turn, or another one of its turns, wherever it runs or ran."""

    standings: Standings
    running: RunningTurns
    log: TurnLog
    encode: Encode
    clock: Clock

    async def __call__(
        self, session_id: SessionId, *, by: UserId, turn_id: TurnId | None = None, after: int = 0
    ) -> LiveTurn:
        """Raises SessionNotFound or NoTurn. `after` is the number of the last event that was seen:
        it matters only when nothing but the stored message is left."""
        standing = await self.standings.standing(session_id, by, turn_id)
        if standing is None:
            raise SessionNotFound(session_id)
        if standing.turn is None:
            raise NoTurn(session_id)
        return await self.where(standing.turn, standing, after)

    async def running_in(self, session_id: SessionId, *, by: UserId) -> LiveTurn | None:
        """The answer that is being written in the session. Raises SessionNotFound."""
        standing = await self.standings.standing(session_id, by)
        if standing is None:
            raise SessionNotFound(session_id)
        if standing.turn is None or standing.turn.settled:
            return None
        return await self.where(standing.turn, standing, 0)

    async def begun(self, session_id: SessionId, turn_id: TurnId) -> LiveTurn:
        """A turn of which we have just heard that it runs."""
        return self.running.get(turn_id) or await self.log.follow(turn_id, session_id)

    async def where(self, turn: EarlierTurn, standing: Standing, after: int) -> LiveTurn:
        """The turn, from the best source that there is."""
        here = self.running.get(turn.hold.id) or self.log.unwritten(turn.hold.id)
        if here is not None:
            return here
        if not turn.settled:
            return await self.log.follow(turn.hold.id, turn.hold.session_id)
        return await self._settled(turn, standing, after)

    async def _settled(self, turn: EarlierTurn, standing: Standing, after: int) -> LiveTurn:
        hold = turn.hold
        written = await self.log.whole(hold.id)
        if written and written[-1][0] in LAST_EVENTS:
            return _told(turn, 0, written)
        settled_at = standing.settled_at
        if settled_at is not None and self.clock.now() - settled_at < _LOG_LAGS:
            return await self.log.follow(hold.id, hold.session_id)
        if after == 0:
            return _told(turn, 0, [self.encode(event) for event in retold(turn)])
        return _told(turn, after, [self.encode(event) for event in ending(turn)])


@dataclass(frozen=True, slots=True)
class CloseSilentTurns:
    """End what is followed here and was settled without our hearing of it: its replica died, or the
    log lost something. Answers how many."""

    standings: Standings
    log: TurnLog
    encode: Encode
    silence: timedelta = timedelta(seconds=3)

    async def __call__(self) -> int:
        silent = {turn.turn_id: turn for turn in self.log.silent(self.silence.total_seconds())}
        if not silent:
            return 0
        settled = await self.standings.outcomes(list(silent))
        for turn in settled:
            heard = silent[turn.hold.id]
            events = ending(turn)
            if heard.last == 0:
                events = retold(turn)
            elif heard.last_name == "usage":
                events = events[-1:]
            heard.close([self.encode(event) for event in events])
        return len(settled)


def retold(turn: EarlierTurn) -> list[TurnEvent]:
    """A settled turn as it might have been said, the whole text in one piece."""
    message = turn.answer
    text = [Delta(message.content)] if message is not None and message.content else []
    calls = message.tool_calls if message is not None else ()
    called = [CallsTool(i, call.id, call.name, call.arguments) for i, call in enumerate(calls)]
    return [Started(turn.hold), *text, *called, *ending(turn)]


def ending(turn: EarlierTurn) -> list[TurnEvent]:
    """How a settled turn ended, for those who saw it begin."""
    message = turn.answer
    if message is None:
        return [Broken(AnswerLost(turn.outcome), None)]
    if turn.outcome in _ANSWERS:
        return [UsageTold(message), _answered(message, turn)]
    return [Broken(AnswerLost(turn.outcome), message)]


def _answered(message: Message, turn: EarlierTurn) -> Answered:
    reason = message.finish_reason or turn.outcome or "stop"
    return Answered(message, reason, turn.fallback_from, message.tool_calls)


def _told(turn: EarlierTurn, base: int, events: Sequence[LiveEvent]) -> HeardTurn:
    told = HeardTurn(turn.hold.id, turn.hold.session_id, base=base)
    told.close(events)
    return told
