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
from services.chat.domain.frames import Began, Ended, Text
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Hold, Orphan, Outcome, TurnId
from services.chat.domain.turn_events import Answered, Broken
from shared.errors import DependencyUnavailable
from shared.tiers import TIERS
from tests.support.chat import (
    Desk,
    MemoryTurns,
    ScriptedProvider,
    ScriptStep,
    a_question,
    a_session,
)

TICK = timedelta(seconds=10)


@asynccontextmanager
async def a_desk_with_a_running_turn(
    *then: ScriptStep,
) -> AsyncIterator[tuple[Desk, RunningTurn]]:
    session = a_session()
    script = (Began("c", None), Text("Hello wo"), *(then or [asyncio.Event()]))
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


async def test_a_whole_answer_of_which_less_is_kept_is_told_as_what_is_kept() -> None:
    go_on = asyncio.Event()
    async with a_desk_with_a_running_turn(go_on, Text("rld"), Ended("stop", None)) as (desk, turn):
        await swept(desk, Written("Hello wo"))

        go_on.set()
        told = await turn.result()

        # As whoever follows it on another replica is told.
        assert isinstance(told, Broken)
        assert told.failure.code == "answer_lost"
        assert told.message is not None
        assert (told.message.content, told.message.status) == ("Hello wo", "interrupted")


async def test_of_a_lost_answer_no_more_counts_than_its_tier_allows() -> None:
    async with a_desk_with_a_running_turn() as (desk, turn):
        desk.turns.progress[turn.hold.id] = 50 << 20
        await swept(desk)
        (fact,) = desk.turns.facts
        allowance = TIERS["free"].allowance("openai")
        assert allowance is not None
        assert fact.event.output_tokens == allowance.max_output_tokens


async def test_what_an_unknown_tier_allows_is_unknown() -> None:
    async with a_desk_with_a_running_turn() as (desk, turn):
        desk.turns.holds[turn.hold.id] = replace(turn.hold, tier="of-a-newer-release")
        desk.turns.progress[turn.hold.id] = 40_000
        await swept(desk)
        (fact,) = desk.turns.facts
        assert fact.event.output_tokens == 10_000


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


async def test_what_a_lost_replica_was_counts_and_not_what_the_sweeper_is() -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        assert desk.settle.sandbox
        await swept(desk)
        (fact,) = desk.turns.facts
        assert not fact.event.sandbox


async def test_a_sweep_tells_the_limits_what_they_could_not_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        told: list[str] = []

        async def tell() -> None:
            told.append("the untold")

        monkeypatch.setattr(desk.admission, "tell_the_untold", tell)
        await sweeper(desk)()
        assert told == ["the untold"]


async def test_what_was_settled_meanwhile_is_none_of_the_sweepers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_desk_with_a_running_turn() as (desk, _):

        async def too_late(*_parts: object) -> bool:
            return False

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(desk.turns, "settle", too_late)
            assert await swept(desk) == 0
        (place,) = desk.admission.reservations
        assert place.times_given_back == 0


async def test_of_what_was_heard_and_written_down_nowhere_the_limits_are_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_desk_with_a_running_turn() as (desk, _):
        await desk.turns.renew(desk.running.progress(), desk.clock.now())
        orphans = desk.turns.orphans

        async def told(*parts: Any, **more: Any) -> list[Orphan]:
            found = await orphans(*parts, **more)
            return [replace(orphan, provider_request_id="chatcmpl-9") for orphan in found]

        monkeypatch.setattr(desk.turns, "orphans", told)
        await swept(desk)
        (place,) = desk.admission.reservations
        assert (len(place.settled), place.refunds) == (1, 0)
        (fact,) = desk.turns.facts
        assert fact.event.provider_request_id == "chatcmpl-9"
