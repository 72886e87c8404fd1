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

from services.chat.actions.settle_orphans import SettleOrphans, WrittenText
from services.chat.domain.frames import Began, Text
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Hold, Outcome, TurnId
from services.chat.domain.turn_events import Answered
from shared.errors import DependencyUnavailable
from tests.support.chat import Desk, MemoryTurns, ScriptedProvider, a_question, a_session

TICK = timedelta(seconds=10)


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


def sweeper(desk: Desk, written: WrittenText | None = None) -> SettleOrphans:
    return SettleOrphans(desk.turns, desk.settle, desk.clock, desk.admission, written)


async def swept(desk: Desk, written: WrittenText | None = None) -> int:
    """How many are settled when two looks, long enough apart, find that their lease ran out."""
    sweep = sweeper(desk, written)
    desk.clock.forward(timedelta(seconds=31))
    for _ in range(2):
        assert await sweep() == 0
        desk.clock.forward(TICK)
    return await sweep()


async def test_a_hold_whose_lease_ran_out_is_settled_with_an_estimate() -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        lease_end = desk.clock.now() + timedelta(seconds=30)
        await desk.turns.renew(desk.running.progress(), lease_end)

        assert await swept(desk) == 1

        assert desk.outcome is Outcome.REPLICA_LOST
        (fact,) = desk.turns.facts
        assert (fact.event.source, fact.event.output_tokens) == ("estimated", 2)


async def test_what_a_lost_turn_did_not_use_comes_back() -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        await desk.turns.renew(desk.running.progress(), desk.clock.now())
        await swept(desk, Written("Hello wo"))
        (place,) = desk.admission.reservations
        used = desk.only_settlement.usage
        assert place.settled == [(used.input_tokens + 2, 7)]


async def test_of_what_nobody_heard_only_the_money_is_counted() -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        await swept(desk)  # it died before it could tell that anything was said
        (place,) = desk.admission.reservations
        assert (place.settled, place.refunds, place.spent) == ([], 1, 7)


async def test_a_turn_that_was_moved_has_its_place_where_it_is() -> None:
    async with a_desk_with_a_running_turn() as (desk, turn):
        (opened,) = desk.admission.requests
        moved = replace(opened, reservation=turn.hold.place_at("gemini"), provider="gemini")
        place = await desk.admission.admit(moved, spent=nothing)
        await desk.turns.redirect(turn.hold.id, provider="gemini", model="gemini-3.8-flash")
        await swept(desk, Written("Hello wo"))
        assert len(place.settled) == 1


async def test_after_the_database_was_away_those_that_live_are_left_alone() -> None:
    async with a_desk_with_a_running_turn() as (desk, turn):
        sweep = sweeper(desk)
        desk.clock.forward(timedelta(minutes=5))  # in which nobody could renew anything
        for _ in range(2):
            assert await sweep() == 0
            # Not soon: a try that began too early had to fail first.
            desk.clock.forward(TICK)
        await desk.turns.renew(desk.running.progress(), desk.clock.now() + timedelta(seconds=30))
        assert await sweep() == 0
        # And when that happens once more, an old doubt is none.
        desk.clock.forward(timedelta(minutes=5))
        for _ in range(2):
            assert await sweep() == 0
            assert desk.turns.settled == {}
            desk.clock.forward(TICK)
        assert await sweep() == 1
        assert list(desk.turns.settled) == [turn.hold.id]


async def nothing() -> int:
    return 0


async def test_a_hold_whose_lease_runs_is_left_alone() -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        for _ in range(2):
            assert await sweeper(desk)() == 0
            desk.clock.forward(TICK)
        assert desk.turns.settled == {}


async def test_a_replica_that_was_only_slow_changes_nothing_afterwards() -> None:
    async with a_desk_with_a_running_turn() as (desk, turn):
        await swept(desk, Written("Hello wonder"))

        turn.end(Outcome.STOPPED)
        told = await turn.result()

        # Nor does it tell its client anything else than what is stored.
        assert isinstance(told, Answered)
        assert (told.message.content, told.finish_reason) == ("Hello wonder", "replica_lost")
        assert desk.outcome is Outcome.REPLICA_LOST
        assert len(desk.turns.facts) == 1


class Written:
    def __init__(self, text: str) -> None:
        self.text = text

    async def text_of(self, turn_id: TurnId) -> str:
        return self.text


async def test_what_was_written_down_of_a_lost_answer_is_kept() -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        await swept(desk, Written("Hello wonder"))
        settlement = desk.only_settlement
        assert (settlement.text, settlement.outcome) == ("Hello wonder", Outcome.REPLICA_LOST)
        assert settlement.finish_reason == "replica_lost"
        (fact,) = desk.turns.facts
        assert fact.event.output_tokens == 3


async def test_the_sweeper_offers_again_later_what_the_database_does_not_take() -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        desk.turns.failing = 1
        with pytest.raises(DependencyUnavailable):
            await swept(desk)
        assert await sweeper(desk)() == 1
        assert desk.outcome is Outcome.REPLICA_LOST


async def test_one_orphan_that_can_not_be_closed_does_not_keep_the_others_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_desk_with_a_running_turn() as (desk, turn):
        other = replace(turn.hold, id=TurnId(uuid4()), session_id=None)
        await desk.turns.hold(other, None, sandbox=True)
        settle = desk.turns.settle

        async def settle_others(hold: Hold, *parts: Any) -> bool:
            if hold.id == turn.hold.id:
                raise ZeroDivisionError
            return await settle(hold, *parts)

        monkeypatch.setattr(desk.turns, "settle", settle_others)
        assert await swept(desk) == 1
        assert list(desk.turns.settled) == [other.id]
