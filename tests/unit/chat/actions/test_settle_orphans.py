"""A replica that dies takes no usage with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.chat.actions.running_turn import RunningTurn
from services.chat.actions.settle_orphans import SettleOrphans
from services.chat.domain.frames import Began, Text
from services.chat.domain.turn import Hold, Outcome, TurnId
from shared.errors import DependencyUnavailable
from tests.support.chat import Desk, MemoryTurns, ScriptedProvider, a_question, a_session


@asynccontextmanager
async def a_desk_with_a_running_turn() -> AsyncIterator[tuple[Desk, RunningTurn]]:
    session = a_session()
    script = (Began("c", None), Text("Hello wo"), asyncio.Event())
    desk = Desk(MemoryTurns(session), ScriptedProvider(*script))
    turn = await desk.take_turn(a_question(session))
    assert isinstance(turn, RunningTurn)
    async for _ in turn.follow(after=1):
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


class Written:
    def __init__(self, text: str) -> None:
        self.text = text

    async def text_of(self, turn_id: TurnId) -> str:
        return self.text


async def test_what_was_written_down_of_a_lost_answer_is_kept() -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        desk.clock.forward(timedelta(seconds=31))
        await SettleOrphans(desk.turns, desk.settle, desk.clock, Written("Hello wonder"))()
        settlement = desk.only_settlement
        assert (settlement.text, settlement.outcome) == ("Hello wonder", Outcome.REPLICA_LOST)
        assert settlement.finish_reason == "replica_lost"
        (fact,) = desk.turns.facts
        assert fact.event.output_tokens == 3


async def test_the_sweeper_offers_again_later_what_the_database_does_not_take() -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        desk.clock.forward(timedelta(seconds=31))
        desk.turns.failing = 1
        sweep = SettleOrphans(desk.turns, desk.settle, desk.clock)
        with pytest.raises(DependencyUnavailable):
            await sweep()
        assert await sweep() == 1
        assert desk.outcome is Outcome.REPLICA_LOST


async def test_one_orphan_that_can_not_be_closed_does_not_keep_the_others_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_desk_with_a_running_turn() as (desk, turn):
        other = replace(turn.hold, id=TurnId(uuid4()), session_id=None)
        await desk.turns.hold(other, None, sandbox=True)
        desk.clock.forward(timedelta(seconds=31))
        settle = desk.turns.settle

        async def settle_others(hold: Hold, *parts: Any) -> bool:
            if hold.id == turn.hold.id:
                raise ZeroDivisionError
            return await settle(hold, *parts)

        monkeypatch.setattr(desk.turns, "settle", settle_others)
        await SettleOrphans(desk.turns, desk.settle, desk.clock)()
        assert list(desk.turns.settled) == [other.id]
