"""What a turn tells those who want its end alone."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from services.chat.domain.live import LiveEvent
from services.chat.domain.running_turn import RunningTurn, RunningTurns
from services.chat.domain.turn import Hold, Outcome, TurnId
from services.chat.domain.turn_events import Answered, Broken, Delta, TurnEvent
from shared.vendors.failures import VendorFailed
from tests.support.chat_calls import a_hold, an_answer_message


@pytest.fixture
def turn() -> RunningTurn:
    return RunningTurn(a_hold(), (), UUID(int=9))


def the_last(turn: RunningTurn) -> Answered:
    return Answered(an_answer_message(turn.hold, "a piece"), "stop")


async def test_whoever_wants_the_end_is_woken_by_the_end_alone(turn: RunningTurn) -> None:
    first, second = asyncio.ensure_future(turn.result()), asyncio.ensure_future(turn.result())
    await asyncio.sleep(0)
    turn.say(Delta("a piece"))
    turn.say(the_last(turn))
    await asyncio.sleep(0)
    assert not first.done()
    assert not turn.bell._waiters

    turn.over()
    last = turn.events[-1]
    assert (await first, await second, await turn.result()) == (last, last, last)


async def test_who_gave_up_waiting_keeps_it_from_nobody(turn: RunningTurn) -> None:
    first, second = asyncio.ensure_future(turn.result()), asyncio.ensure_future(turn.result())
    await asyncio.sleep(0)
    first.cancel()
    turn.say(the_last(turn))
    turn.over()
    assert await second is turn.events[-1]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_what_broke_is_written_where_its_request_is_known(turn: RunningTurn) -> None:
    written: list[TurnEvent] = []

    def encode(event: TurnEvent) -> LiveEvent:
        written.append(event)
        return "event", b""

    turn.encode = encode
    turn.say(Delta("a piece"))
    assert written == []
    turn.say(Broken(VendorFailed("openai"), None))
    assert written == turn.events


async def test_whoever_follows_sees_every_event_once(turn: RunningTurn) -> None:
    for piece in "abc":
        turn.say(Delta(piece))
    turn.say(the_last(turn))
    turn.over()
    assert [event async for event in turn.follow()] == turn.events
    assert [event async for event in turn.follow(2)] == turn.events[2:]


async def test_the_first_of_an_answer_is_told_once() -> None:
    told: list[Hold] = []
    running = RunningTurns(answering=lambda hold, seconds: told.append(hold))
    turn = RunningTurn(a_hold(), (), UUID(int=9))

    async def work() -> None:
        turn.answers()
        turn.answers()

    running.start(turn, work())
    await running.drained(5)
    assert told == [turn.hold]


async def test_only_those_that_are_meant_are_ended() -> None:
    running, may_end = RunningTurns(), asyncio.Event()
    one, other = (RunningTurn(a_hold(id=TurnId(uuid4())), (), UUID(int=n)) for n in range(2))

    async def work() -> None:
        await may_end.wait()

    for turn in (one, other):
        running.start(turn, work())
    assert running.end(Outcome.STOPPED, where=lambda hold: hold.id == one.turn_id) == 1
    assert (one.ended_as, other.ended_as) == (Outcome.STOPPED, None)
    assert running.end_of_sign_in(UUID(int=1), Outcome.CLIENT_GONE) == 1
    assert other.ended_as is Outcome.CLIENT_GONE
    may_end.set()
    await running.drained(5)
    assert running.progress() == {}
    await asyncio.sleep(0)
    assert not running._tasks, "nothing is kept of what is over"


async def test_where_nothing_runs_nothing_is_waited_for() -> None:
    async with asyncio.timeout(1):
        await RunningTurns().drained(60)


async def test_each_event_is_written_once_however_many_follow() -> None:
    written: list[TurnEvent] = []

    def encode(event: TurnEvent) -> LiveEvent:
        written.append(event)
        return "event", str(len(written)).encode()

    turn = RunningTurn(a_hold(), (), UUID(int=9))

    async def work() -> None:
        turn.say(Delta("a"))

    running = RunningTurns(encode)
    running.start(turn, work())
    await running.drained(5)
    assert turn.said(0) == [("event", b"1"), ("event", b"2")]
    assert turn.said(1) == [("event", b"2")]
    assert turn.said(2) == []
    assert written == turn.events
