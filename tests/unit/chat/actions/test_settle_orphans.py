"""A replica that dies takes no usage with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from services.chat.actions.running_turn import RunningTurn
from services.chat.actions.settle_orphans import SettleOrphans
from services.chat.domain.frames import Began, Text
from services.chat.domain.turn import Outcome
from tests.support.chat import Desk, MemoryTurns, ScriptedProvider, a_question, a_session


@asynccontextmanager
async def a_desk_with_a_running_turn() -> AsyncIterator[tuple[Desk, RunningTurn]]:
    session = a_session()
    script = (Began("c", None), Text("Hello wo"), asyncio.Event())
    desk = Desk(MemoryTurns(session), ScriptedProvider(*script))
    turn = await desk.take_turn(a_question(session))
    assert isinstance(turn, RunningTurn)
    async for _ in turn.follow():
        break
    yield desk, turn
    await desk.running.drained(0)


async def test_a_hold_whose_lease_ran_out_is_settled_with_an_estimate() -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        lease_end = desk.clock.now() + timedelta(seconds=30)
        await desk.turns.renew(desk.running.progress(), lease_end)
        desk.clock.forward(timedelta(seconds=31))

        settled = await SettleOrphans(desk.turns, desk.settle, desk.clock)()

        assert settled == 1
        assert desk.outcome is Outcome.REPLICA_LOST
        (fact,) = desk.turns.facts
        assert (fact.event.source, fact.event.output_tokens) == ("estimated", 2)


async def test_a_hold_whose_lease_runs_is_left_alone() -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        assert await SettleOrphans(desk.turns, desk.settle, desk.clock)() == 0
        assert desk.turns.settled == {}


async def test_a_replica_that_was_only_slow_changes_nothing_afterwards() -> None:
    async with a_desk_with_a_running_turn() as (desk, turn):
        desk.clock.forward(timedelta(seconds=31))
        await SettleOrphans(desk.turns, desk.settle, desk.clock)()

        turn.end(Outcome.STOPPED)
        await turn.result()

        assert desk.outcome is Outcome.REPLICA_LOST
        assert len(desk.turns.facts) == 1
