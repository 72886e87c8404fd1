"""A day after a call its idempotency key may be used anew."""

from __future__ import annotations

from datetime import timedelta

from services.chat.actions.forget_answers import ForgetAnswers
from services.chat.domain.running_turn import RunningTurn
from tests.support.chat import Desk, MemoryTurns, ScriptedProvider, a_question, a_session, an_answer


async def answered(desk: Desk, key: str) -> RunningTurn:
    (session,) = desk.turns.sessions.values()
    turn = await desk.take_turn(a_question(session, idempotency_key=key))
    assert isinstance(turn, RunningTurn)
    await turn.result()
    return turn


async def test_old_keys_are_freed_in_batches_and_younger_ones_stay() -> None:
    desk = Desk(MemoryTurns(a_session()), ScriptedProvider(*an_answer("x")))
    for number in range(7):
        await answered(desk, f"old-{number}")
    desk.clock.forward(timedelta(hours=24, seconds=1))
    await answered(desk, "young")

    assert await ForgetAnswers(desk.turns, desk.clock)(most=3) == 7

    assert [h.idempotency_key for h in desk.turns.holds.values()] == [None] * 7 + ["young"]
    assert await ForgetAnswers(desk.turns, desk.clock)(most=3) == 0


async def test_one_run_has_an_end() -> None:
    desk = Desk(MemoryTurns(a_session()), ScriptedProvider(*an_answer("x")))
    for number in range(60):
        await answered(desk, f"old-{number}")
    desk.clock.forward(timedelta(hours=25))
    assert await ForgetAnswers(desk.turns, desk.clock)(most=1) == 50
