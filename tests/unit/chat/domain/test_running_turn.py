"""What a turn tells those who want its end alone."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn_events import Answered, Delta
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
