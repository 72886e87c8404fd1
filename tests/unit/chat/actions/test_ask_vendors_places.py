"""Breakers, and turns that are stopped while they wait or move: every place is given back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.chat.domain.errors import VendorRejectedRequest
from services.chat.domain.frames import Began
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Outcome
from services.chat.domain.turn_events import Answered, Broken
from shared.errors import DependencyUnavailable
from shared.tiers import TIERS
from shared.vendors.failures import (
    NoUsableKey,
    VendorOverloaded,
)
from tests.support.chat import (
    a_question,
    ada,
)
from tests.support.chat_fallback import (
    CUT,
    HELLO,
    OVERLOADED,
    SESSION,
    a_desk,
    attempts,
    last_event,
)


async def test_an_open_breaker_is_not_waited_for() -> None:
    desk = a_desk([OVERLOADED], wishes=False)
    await last_event(desk)
    desk.turns.settled.clear()
    desk.turns.holds.clear()
    await last_event(desk)
    before = attempts(desk)

    desk.turns.holds.clear()
    desk.time.slept.clear()
    result = await last_event(desk)

    assert isinstance(result, Broken)
    assert isinstance(result.failure, VendorOverloaded)
    assert result.failure.retry_after == timedelta(seconds=9)  # one was waited by the turn before
    assert (attempts(desk), desk.time.slept) == (before, [])
    assert before == (5, 0)


async def test_an_open_breaker_leads_to_the_next_provider() -> None:
    desk = a_desk([OVERLOADED], wishes=True)
    for _ in range(5):
        desk.breakers.failed(("openai", ada), OVERLOADED, is_probe=False)
    result = await last_event(desk)
    assert isinstance(result, Answered)
    assert attempts(desk) == (0, 1)


async def test_a_probe_that_is_stopped_leaves_its_place_to_the_next() -> None:
    desk = a_desk([Began("c", None), asyncio.Event()], HELLO)
    for _ in range(5):
        desk.breakers.failed(("openai", ada), OVERLOADED, is_probe=False)
    desk.time.now += 10
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)
    await asyncio.sleep(0)
    turn.end(Outcome.STOPPED)
    await turn.result()
    assert isinstance(await last_event(desk), Answered)


async def test_what_is_asked_of_nobody_is_no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = a_desk(HELLO)
    for _ in range(5):
        desk.breakers.failed(("openai", ada), OVERLOADED, is_probe=False)
    desk.time.now += 10
    rejected = VendorRejectedRequest("It would not take that.", provider="openai")

    def unasked(*_: object, **__: object) -> Any:
        raise rejected

    with monkeypatch.context() as patched:
        patched.setattr(desk.provider, "answer", unasked)
        result = await last_event(desk)
    assert isinstance(result, Broken)
    assert result.failure is rejected
    # Nothing was heard of the vendor: it is still left alone, and the next one may try at once.
    assert len(desk.breakers) == 1
    assert isinstance(await last_event(desk), Answered)


async def test_a_turn_that_waits_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = a_desk([OVERLOADED], HELLO)
    waiting = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(desk.time, "sleep", sleep)
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)
    await waiting.wait()

    turn.end(Outcome.STOPPED)
    turn.end(Outcome.CLIENT_GONE)

    assert isinstance(await asyncio.wait_for(turn.result(), 5), Answered)
    assert desk.outcome is Outcome.STOPPED
    assert attempts(desk) == (1, 0)
    assert [r.times_given_back for r in desk.admission.reservations] == [1]


async def test_a_turn_that_waits_does_not_hold_up_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = a_desk([OVERLOADED], HELLO)
    monkeypatch.setattr(desk.time, "sleep", lambda _seconds: asyncio.Event().wait())
    await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    await asyncio.wait_for(desk.running.drained(0.01), 5)
    assert desk.outcome is Outcome.STOPPED


@pytest.mark.parametrize("steps", range(12))
async def test_a_turn_that_is_stopped_while_it_moves_gives_every_place_back(steps: int) -> None:
    desk = a_desk([NoUsableKey("None.")], gemini=[asyncio.Event()], wishes=True)
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)
    for _ in range(steps):
        await asyncio.sleep(0)

    turn.end(Outcome.STOPPED)
    await asyncio.wait_for(turn.result(), 5)

    assert {r.times_given_back for r in desk.admission.reservations} == {1}
    assert desk.outcome is Outcome.STOPPED
    # Who has no key is not asked; the other one is, or isn't yet.
    was_asked = attempts(desk)[1] > 0
    assert (desk.only_settlement.usage.total_tokens > 0) is was_asked


@pytest.mark.parametrize("steps", range(4, 12))
async def test_however_often_it_is_stopped_while_it_moves(steps: int) -> None:
    desk = a_desk([NoUsableKey("None.")], gemini=[asyncio.Event()], wishes=True)
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)
    for _ in range(steps):
        await asyncio.sleep(0)

    turn.end(Outcome.STOPPED)
    await asyncio.sleep(0)
    turn.end(Outcome.STOPPED, at_once=True)
    await asyncio.wait_for(turn.result(), 5)

    assert {r.times_given_back for r in desk.admission.reservations} == {1}


async def test_what_has_answered_is_in_no_trouble() -> None:
    desk = a_desk([OVERLOADED], HELLO)
    assert isinstance(await last_event(desk), Answered)
    assert len(desk.breakers) == 0


async def test_a_place_that_could_not_be_written_down_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*_parts: object, **_more: object) -> None:
        raise DependencyUnavailable("database")

    desk = a_desk([CUT], wishes=True)
    monkeypatch.setattr(desk.turns, "redirect", away)
    assert isinstance(await last_event(desk), Broken)
    assert attempts(desk) == (1, 0)
    assert [place.times_given_back for place in desk.admission.reservations] == [1, 1]
