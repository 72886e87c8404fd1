"""Following and stopping turns that run here, elsewhere, or no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from services.chat.actions import stop_turn
from services.chat.actions.follow_turn import CloseSilentTurns, FollowTurn
from services.chat.actions.stop_turn import StopTurn
from services.chat.api.live_events import live_event
from services.chat.domain.conversation import SessionId
from services.chat.domain.devices import MOST_FOR_A_USER, Devices
from services.chat.domain.errors import (
    NoRunningTurn,
    NoTurn,
    SessionNotFound,
    StopUnconfirmed,
    TooManySockets,
)
from services.chat.domain.live import HeardTurn, LiveEvent, LiveNews, LiveTurn
from services.chat.domain.ports import EarlierTurn, Standing
from services.chat.domain.running_turn import RunningTurn, RunningTurns
from services.chat.domain.turn import Outcome, TurnId
from services.chat.domain.turn_events import Answered
from shared.close_codes import CloseCode
from shared.ids import UserId
from tests.support.chat import (
    Desk,
    MemoryTurns,
    ScriptedProvider,
    StoppedClock,
    a_question,
    a_session,
    ada,
    an_answer,
)


@dataclass
class Told:
    """Where turns stand, as a test says; the channel and the log remember what they are asked."""

    standing_: Standing | None = None
    written: Sequence[LiveEvent] = ()
    silent_: Sequence[HeardTurn] = ()
    settled: Sequence[EarlierTurn] = ()
    stops: list[TurnId] = field(default_factory=list)
    rooms: list[str] = field(default_factory=list)

    async def standing(
        self, session_id: SessionId, user_id: UserId, turn_id: TurnId | None = None
    ) -> Standing | None:
        return self.standing_

    async def outcomes(self, turn_ids: Collection[TurnId]) -> Sequence[EarlierTurn]:
        return [turn for turn in self.settled if turn.hold.id in turn_ids]

    def keep(self, turn: LiveTurn) -> None:
        """Nothing is written down."""

    def unwritten(self, turn_id: TurnId) -> LiveTurn | None:
        return None

    async def follow_(self, turn_id: TurnId, session_id: SessionId | None) -> HeardTurn:
        return HeardTurn(turn_id, session_id)

    async def whole(self, turn_id: TurnId) -> Sequence[LiveEvent]:
        return self.written

    def silent(self, seconds: float) -> Sequence[HeardTurn]:
        return self.silent_

    async def stop(self, turn_id: TurnId) -> None:
        self.stops.append(turn_id)

    async def emit(self, session_id: SessionId, message: bytes) -> None:
        """Nobody hears it."""

    async def enter(self, session_id: SessionId) -> None:
        self.rooms.append(f"enter {session_id}")

    async def leave(self, session_id: SessionId) -> None:
        self.rooms.append(f"leave {session_id}")

    def heard(self) -> AsyncIterator[LiveNews]:
        raise AssertionError("nobody listens here")

    follow = follow_


def following(told: Told, desk: Desk, clock: StoppedClock | None = None) -> FollowTurn:
    return FollowTurn(told, desk.running, told, live_event, clock or StoppedClock())


async def a_settled_turn() -> tuple[Desk, EarlierTurn]:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(*an_answer("some ", "text")))
    desk.running = RunningTurns(live_event)
    turn = await desk.take_turn(a_question(session, idempotency_key="k"))
    assert isinstance(turn, RunningTurn)
    await turn.result()
    earlier = await desk.turns.earlier(ada, "k")
    assert earlier is not None
    return desk, earlier


def names(turn: LiveTurn, after: int = 0) -> list[str]:
    return [name for name, _ in turn.said(after)]


async def test_nothing_to_follow() -> None:
    desk = Desk(MemoryTurns(), ScriptedProvider())
    with pytest.raises(SessionNotFound):
        await following(Told(None), desk)(SessionId(uuid4()), by=ada)
    with pytest.raises(NoTurn):
        await following(Told(Standing(None)), desk)(SessionId(uuid4()), by=ada)
    assert (
        await following(Told(Standing(None)), desk).running_in(SessionId(uuid4()), by=ada) is None
    )


async def test_the_turn_itself_comes_before_its_log() -> None:
    session, gate = a_session(), asyncio.Event()
    desk = Desk(MemoryTurns(session), ScriptedProvider(gate, *an_answer("x")))
    desk.running = RunningTurns(live_event)
    turn = await desk.take_turn(a_question(session, idempotency_key="k"))
    assert isinstance(turn, RunningTurn)
    earlier = await desk.turns.earlier(ada, "k")
    assert earlier is not None
    told = Told(Standing(earlier), written=[("delta", b"{}")])
    assert await following(told, desk)(session.id, by=ada) is turn
    gate.set()
    await turn.result()


@pytest.mark.parametrize(
    ("after", "told"),
    [(0, ["start", "delta", "usage", "done"]), (5, ["usage", "done"])],
)
async def test_what_nobody_has_written_down_is_told_from_the_record(
    after: int, told: list[str]
) -> None:
    desk, earlier = await a_settled_turn()
    long_ago = StoppedClock().now() - timedelta(hours=1)
    turn = await following(Told(Standing(earlier, long_ago)), desk)(
        SessionId(uuid4()), by=ada, after=after
    )
    assert turn.is_over
    assert names(turn, after) == told


async def test_a_log_that_lags_a_moment_behind_is_waited_for() -> None:
    desk, earlier = await a_settled_turn()
    just_now: datetime = StoppedClock().now() - timedelta(seconds=1)
    turn = await following(Told(Standing(earlier, just_now)), desk)(SessionId(uuid4()), by=ada)
    assert not turn.is_over


@pytest.mark.parametrize(
    ("heard", "end"),
    [
        ([], ["start", "delta", "usage", "done"]),
        ([("start", b"{}"), ("delta", b"{}")], ["usage", "done"]),
        ([("start", b"{}"), ("usage", b"{}")], ["done"]),
    ],
)
async def test_a_silent_turn_is_closed_once_it_is_settled(
    heard: list[LiveEvent], end: list[str]
) -> None:
    _, earlier = await a_settled_turn()
    turn = HeardTurn(earlier.hold.id, earlier.hold.session_id)
    turn.hear(1, heard)
    told = Told(silent_=[turn])
    close = CloseSilentTurns(told, told, live_event)
    assert await close() == 0
    assert not turn.is_over
    told.settled = [earlier]
    assert await close() == 1
    assert names(turn, len(heard)) == end


async def test_stopping_elsewhere_needs_a_word_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_turn, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(stop_turn, "_LOOK_SECONDS", 0.01)
    _, earlier = await a_settled_turn()
    running = EarlierTurn(b"", False, None, None, earlier.hold)
    told = Told(Standing(running))
    stop = StopTurn(told, RunningTurns(), told)
    with pytest.raises(StopUnconfirmed):
        await stop(SessionId(uuid4()), by=ada)
    assert set(told.stops) == {earlier.hold.id}

    async def settle_soon() -> None:
        await asyncio.sleep(0.02)
        told.standing_ = Standing(earlier)

    settling = asyncio.create_task(settle_soon())
    ended = await stop(SessionId(uuid4()), by=ada)
    await settling
    assert isinstance(ended, Answered)
    with pytest.raises(NoRunningTurn):
        await stop(SessionId(uuid4()), by=ada)


async def test_stopping_what_runs_here_tells_nobody() -> None:
    session, gate = a_session(), asyncio.Event()
    desk = Desk(MemoryTurns(session), ScriptedProvider(*an_answer("x")[:2], gate))
    turn = await desk.take_turn(a_question(session, idempotency_key="k"))
    assert isinstance(turn, RunningTurn)
    await anext(turn.follow(after=1))
    told = Told(Standing(await desk.turns.earlier(ada, "k")))
    ended = await StopTurn(told, desk.running, told)(session.id, by=ada)
    assert isinstance(ended, Answered)
    assert (ended.message.content, desk.outcome) == ("x", Outcome.STOPPED)
    assert told.stops == []


class QuietDevice:
    """A socket that remembers why it was closed."""

    def __init__(self, user_id: UserId = ada) -> None:
        self.user_id = user_id
        self.sign_in_id = uuid4()
        self.closed: list[CloseCode] = []
        self.turns: list[LiveTurn] = []

    def tell(self, event: str, data: object) -> None:
        """It does not listen."""

    def begun(self, turn: LiveTurn) -> None:
        self.turns.append(turn)

    def emitted(self, session_id: SessionId, message: bytes) -> None:
        """It does not listen."""

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed.append(code)

    def look(self) -> None:
        """It has all the time."""


async def test_a_room_is_heard_while_somebody_is_in_it() -> None:
    told, one, other, room = Told(), QuietDevice(), QuietDevice(), SessionId(uuid4())
    devices = Devices(told)
    for device in (one, other):
        devices.open(device)
        await devices.join(device, room)
    turn = HeardTurn(TurnId(uuid4()), room)
    devices.turn_began(turn)
    await devices.leave(one, room)
    await devices.gone(other)
    devices.turn_began(turn)
    assert (one.turns, other.turns) == ([turn], [turn])
    assert told.rooms[-1] == f"leave {room}"
    assert [r for r in told.rooms if r.startswith("leave")] == [f"leave {room}"]
    assert devices.rooms() == ()
    assert devices.sign_ins() == {one.sign_in_id}


async def test_everybody_may_have_a_number_of_sockets() -> None:
    devices = Devices(Told())
    first = QuietDevice()
    devices.open(first)
    for _ in range(MOST_FOR_A_USER - 1):
        devices.open(QuietDevice())
    with pytest.raises(TooManySockets):
        devices.open(QuietDevice())
    devices.open(QuietDevice(UserId(uuid4())))
    await devices.gone(first)
    await devices.gone(first)
    devices.open(QuietDevice())
    with pytest.raises(TooManySockets):
        devices.open(QuietDevice())
