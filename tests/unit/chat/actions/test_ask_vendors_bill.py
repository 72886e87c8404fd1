"""What every attempt leaves on the bill, whatever came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.chat.domain.frames import Began, Ended, Text, Thinking
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Outcome
from services.chat.domain.turn_events import Broken
from services.chat.domain.usage import Usage
from shared.errors import ExpectedFailure
from shared.tiers import TIERS
from tests.support.chat import (
    MemoryWork,
    ScriptStep,
    a_question,
)
from tests.support.chat_fallback import (
    CUT,
    OVERLOADED,
    SESSION,
    UNSENT,
    a_desk,
    attempts,
    last_event,
)


async def test_an_attempt_that_may_be_charged_is_billed_beside_the_answer() -> None:
    desk = a_desk([Began("c-1", None), Thinking("Hm, well"), CUT], wishes=True)
    await last_event(desk)

    lost, answered = desk.turns.facts
    assert (lost.event.provider, lost.event.outcome) == ("openai", "provider_failed")
    assert (lost.event.source, lost.event.output_tokens) == ("estimated", 2)
    assert lost.event.input_tokens > 0
    assert (answered.event.provider, answered.event.outcome) == ("gemini", "done")
    (hold,) = desk.turns.holds.values()
    assert answered.id == hold.usage_event_id != lost.id
    assert desk.only_settlement.whole_cost_microusd == 14
    assert desk.only_settlement.cost_microusd == 7
    # Each place counts the money of its own call.
    first, second = desk.admission.reservations
    assert (first.refunds, first.spent) == (1, 7)
    assert [cost for _, cost in second.settled] == [7]


async def test_of_an_attempt_that_was_left_counts_what_the_vendor_had_told() -> None:
    told = Usage(100_000, cache_read_tokens=99_000, output_tokens=1)
    desk = a_desk([Began("c-1", None, told), Thinking("Hm, well"), CUT], wishes=True)
    await last_event(desk)
    lost, answered = (fact.event for fact in desk.turns.facts)
    assert (lost.input_tokens, lost.cache_read_tokens, lost.output_tokens) == (100_000, 99_000, 2)
    assert answered.input_tokens < 100_000


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_thinking_that_is_told_and_shown_is_estimated_once(is_stopped: bool) -> None:
    told = Usage(90, output_tokens=5, output_reasoning_tokens=5)
    then: list[ScriptStep] = [Text("y" * 8), asyncio.Event()] if is_stopped else [CUT]
    desk = a_desk([Began("c-1", None, told), Thinking("x" * 16), *then])
    if is_stopped:
        turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
        assert isinstance(turn, RunningTurn)
        await turn.more(2)
        turn.end(Outcome.STOPPED)
        await turn.result()
    else:
        await last_event(desk)
    assert desk.only_settlement.usage.output_tokens == (7 if is_stopped else 5)


WENT_WRONG = Ended(
    "other",
    Usage(100_000, cache_read_tokens=99_000, output_tokens=5_000, output_reasoning_tokens=4_990),
)


@pytest.mark.parametrize("wishes", [True, False])
async def test_what_the_vendor_counted_is_billed_as_it_is_though_nothing_came_of_it(
    wishes: bool,
) -> None:
    desk = a_desk([Began("c-1", None, Usage(90_000)), WENT_WRONG], wishes=wishes)
    await last_event(desk)
    lost = desk.turns.facts[0].event
    assert (lost.provider, lost.outcome, lost.source) == ("openai", "provider_failed", "provider")
    assert (lost.input_tokens, lost.cache_read_tokens) == (100_000, 99_000)
    assert (lost.output_tokens, lost.output_reasoning_tokens) == (5_000, 4_990)
    assert [fact.event.provider for fact in desk.turns.facts[1:]] == ["gemini"] * wishes


async def test_a_vendor_that_ends_its_answer_in_words_is_in_no_trouble() -> None:
    desk = a_desk([WENT_WRONG])
    for _ in range(6):
        assert isinstance(await last_event(desk), Broken)
    assert attempts(desk) == (6, 0)
    assert len(desk.breakers) == 0


@pytest.mark.parametrize("steps", range(12))
async def test_what_was_counted_is_billed_once_though_it_is_stopped_while_it_moves(
    steps: int,
) -> None:
    desk = a_desk([WENT_WRONG], gemini=[asyncio.Event()], wishes=True)
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)
    for _ in range(steps):
        await asyncio.sleep(0)

    turn.end(Outcome.STOPPED)
    await asyncio.wait_for(turn.result(), 5)

    assert desk.outcome is Outcome.STOPPED
    outputs = [fact.event.output_tokens for fact in desk.turns.facts]
    assert outputs.count(5_000) == (1 if attempts(desk)[0] else 0)


async def test_an_attempt_that_may_be_charged_costs_money_though_no_other_place_is_free() -> None:
    desk = a_desk([Began("c-1", None), CUT], wishes=True)
    desk.admission.full = {"gemini"}
    await last_event(desk)
    (place,) = desk.admission.reservations
    assert (place.refunds, place.spent, place.settled) == (1, 7, [])
    assert desk.only_settlement.cost_microusd == 7


async def test_a_refusal_leaves_nothing_to_bill() -> None:
    desk = a_desk([OVERLOADED], wishes=True)
    await last_event(desk)
    (fact,) = desk.turns.facts
    assert fact.event.provider == "gemini"


@pytest.mark.parametrize(("failure", "source"), [(CUT, "estimated"), (OVERLOADED, "counted")])
async def test_who_stops_it_before_it_moves_pays_for_what_may_be_charged(
    monkeypatch: pytest.MonkeyPatch, failure: ExpectedFailure, source: str
) -> None:
    looking = asyncio.Event()

    class Slow(MemoryWork):
        @asynccontextmanager
        async def begin(self) -> AsyncIterator[MemoryWork]:
            looking.set()
            await asyncio.Event().wait()
            yield self

    desk = a_desk([failure], wishes=True)
    monkeypatch.setattr(desk.time, "sleep", lambda _seconds: asyncio.Event().wait())
    desk.work = Slow()
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)
    if failure is CUT:
        await looking.wait()
    else:
        await asyncio.sleep(0.01)
    turn.end(Outcome.STOPPED)
    await asyncio.wait_for(turn.result(), 5)
    assert desk.only_settlement.usage.source == source


async def test_what_never_reached_its_vendor_is_charged_nothing_when_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = a_desk([UNSENT])
    monkeypatch.setattr(desk.time, "sleep", lambda _seconds: asyncio.Event().wait())
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)
    await asyncio.sleep(0.01)
    turn.end(Outcome.STOPPED)
    await asyncio.wait_for(turn.result(), 5)
    assert desk.only_settlement.usage == Usage(source="counted")
