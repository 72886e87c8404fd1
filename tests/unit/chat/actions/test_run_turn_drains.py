"""Answers that are read on after they were stopped, where the vendor charges all the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime

import pytest

from services.chat.actions import _read_answer
from services.chat.actions._read_answer import Drains
from services.chat.domain.frames import Began, Ended, Text, Thinking, ToolCallPiece
from services.chat.domain.ports import Quote
from services.chat.domain.turn import Outcome
from services.chat.domain.turn_events import Answered
from services.chat.domain.usage import Usage
from shared.vendors.failures import (
    VendorFailed,
    VendorOverloaded,
)
from tests.support.chat import (
    ScriptedProvider,
    ScriptStep,
)
from tests.support.chat_turns import (
    TOLD,
    a_desk,
    in_a_session,
    result_of,
    said,
    without_a_session,
)


async def test_a_stopped_answer_is_read_on_where_the_vendor_charges_all_the_same() -> None:
    gate = asyncio.Event()
    desk = a_desk(
        Began("c", None), Text("Hello"), gate, Text(" world"), Ended("stop", TOLD), drains=True
    )
    turn = await in_a_session(desk)
    await said(turn, 2)

    turn.end(Outcome.STOPPED)
    gate.set()
    result = await result_of(turn)

    assert isinstance(result, Answered)
    assert (result.message.content, result.finish_reason) == ("Hello", "stopped")
    assert desk.only_settlement.usage == TOLD
    assert desk.outcome is Outcome.STOPPED
    assert [type(e).__name__ for e in turn.events] == ["Started", "Delta", "UsageTold", "Answered"]


async def test_in_a_session_nobody_waits_long_for_the_vendors_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_read_answer, "_SESSION_DRAIN_SECONDS", 0.01)
    desk = a_desk(Began("c", None), Text("Hello"), asyncio.Event(), drains=True)
    turn = await in_a_session(desk)
    await said(turn, 2)

    turn.end(Outcome.STOPPED)
    await result_of(turn)

    assert desk.only_settlement.usage.source == "estimated"
    provider = desk.provider
    assert isinstance(provider, ScriptedProvider)
    assert provider.closed == 1


async def test_without_a_session_limits_come_back_before_the_count_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_read_answer, "_SESSION_DRAIN_SECONDS", 0.01)
    gate = asyncio.Event()
    desk = a_desk(
        Began("c", None), Text("Hello"), gate, Text(" world"), Ended("stop", TOLD), drains=True
    )
    turn = await without_a_session(desk)
    await said(turn, 2)

    turn.left()
    result = await result_of(turn)
    await asyncio.sleep(0.01)

    assert isinstance(result, Answered)
    assert result.message.usage is not None
    assert result.message.usage["source"] == "estimated"
    (reservation,) = desk.admission.reservations
    assert len(reservation.settled) == 1
    assert desk.turns.settled == {}
    assert desk.running.reservations() == []

    gate.set()
    await desk.running.drained(5)
    assert desk.only_settlement.usage == TOLD
    assert desk.outcome is Outcome.CLIENT_GONE
    assert reservation.times_given_back == 1
    (fact,) = desk.turns.facts
    assert fact.event.source == "provider"


async def test_a_drain_that_takes_too_long_is_cut_and_estimated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_read_answer, "_SESSION_DRAIN_SECONDS", 0.005)
    monkeypatch.setattr(_read_answer, "_DRAIN_SECONDS", 0.01)
    never = asyncio.Event()
    desk = a_desk(Began("c", None), Text("Hello"), never, drains=True)
    desk.drains = Drains(most=1)
    turn = await without_a_session(desk)
    await said(turn, 2)
    turn.left()
    assert not desk.drains.take()
    await desk.running.drained(5)
    assert desk.only_settlement.usage.source == "estimated"
    assert desk.drains.take()


async def test_what_comes_during_a_drain_counts_but_is_not_kept() -> None:
    gate = asyncio.Event()
    more: list[ScriptStep] = [Text("x" * 400), Thinking("y" * 40)]
    more.append(ToolCallPiece(0, "id", "tool", "z" * 40))
    desk = a_desk(Began("c", None), Text("Hello"), gate, *more, Ended("stop", None), drains=True)
    turn = await without_a_session(desk)
    await said(turn, 2)
    turn.left()
    gate.set()
    await result_of(turn)
    settlement = desk.only_settlement
    assert (settlement.text, settlement.tool_calls) == ("Hello", ())
    assert settlement.usage.output_tokens == 122


async def test_beyond_the_cap_nothing_is_drained() -> None:
    desk = a_desk(Began("c", None), Text("Hello"), asyncio.Event(), drains=True)
    while desk.drains.take():
        pass
    turn = await without_a_session(desk)
    await said(turn, 2)
    turn.left()
    await result_of(turn)
    assert desk.only_settlement.usage.source == "estimated"


async def test_a_revoked_key_ends_a_drain_at_once() -> None:
    desk = a_desk(Began("c", None), Text("Hello"), asyncio.Event(), drains=True)
    turn = await without_a_session(desk)
    await said(turn, 2)
    turn.left()
    await asyncio.sleep(0)
    assert desk.turns.settled == {}
    turn.end(Outcome.STOPPED, at_once=True)
    await result_of(turn)
    assert desk.outcome is Outcome.CLIENT_GONE


async def test_nothing_is_drained_that_was_not_asked_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = a_desk(VendorOverloaded("In trouble.", provider="openai"), drains=True)
    monkeypatch.setattr(desk.time, "sleep", lambda _seconds: asyncio.Event().wait())
    turn = await in_a_session(desk)
    await asyncio.sleep(0.01)
    turn.end(Outcome.STOPPED)
    await result_of(turn)
    assert desk.outcome is Outcome.STOPPED


async def test_a_stop_between_two_attempts_is_none_of_an_answer_to_be_read_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = a_desk(VendorOverloaded("In trouble.", provider="openai"), drains=True)
    drained: list[bool] = []
    monkeypatch.setattr(desk.time, "sleep", lambda _seconds: asyncio.Event().wait())
    monkeypatch.setattr(desk.drains, "take", lambda: drained.append(True))
    turn = await without_a_session(desk)
    await asyncio.sleep(0.01)
    turn.end(Outcome.STOPPED)
    await result_of(turn)
    assert drained == []


async def test_after_the_end_of_a_slow_drain_nothing_more_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_read_answer, "_SESSION_DRAIN_SECONDS", 0.01)
    gate = asyncio.Event()
    desk = a_desk(Began("c", None), Text("Hello"), gate, Ended("stop", TOLD), drains=True)
    turn = await without_a_session(desk)
    await said(turn, 2)
    turn.left()
    told = await result_of(turn)
    events = len(turn.events)
    gate.set()
    await desk.running.drained(5)
    assert desk.only_settlement.usage == TOLD
    assert (len(turn.events), await result_of(turn)) == (events, told)


@pytest.mark.parametrize(("charged", "owed"), [(22, [20]), (2, []), (0, [])])
async def test_what_a_slow_drain_finds_charged_counts_under_the_users_cap(
    monkeypatch: pytest.MonkeyPatch, charged: int, owed: list[int]
) -> None:
    def a_token_each(provider: str, model: str, usage: Usage, at: datetime) -> Quote | None:
        return Quote(usage.output_tokens, "test")

    monkeypatch.setattr(_read_answer, "_SESSION_DRAIN_SECONDS", 0.01)
    gate = asyncio.Event()
    end = Ended("stop", replace(TOLD, output_tokens=charged))
    desk = a_desk(Began("c", None), Text("Hello"), gate, end, drains=True)
    desk.price = a_token_each
    turn = await without_a_session(desk)
    await said(turn, 2)
    turn.left()
    await result_of(turn)
    await asyncio.sleep(0.01)
    (place,) = desk.admission.reservations
    assert [cost for _, cost in place.settled] == [2]
    gate.set()
    await desk.running.drained(5)
    assert desk.only_settlement.cost_microusd == charged
    assert place.owed == owed


async def test_what_fails_after_the_stop_is_not_asked_for_again() -> None:
    gate = asyncio.Event()
    desk = a_desk(gate, VendorOverloaded("In trouble.", provider="openai"), drains=True)
    turn = await in_a_session(desk)
    await asyncio.sleep(0.01)
    turn.end(Outcome.STOPPED)
    gate.set()
    await result_of(turn)
    assert isinstance(desk.provider, ScriptedProvider)
    assert (len(desk.provider.prompts), desk.outcome) == (1, Outcome.STOPPED)


async def test_without_a_session_a_drain_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_read_answer, "_DRAIN_SECONDS", 0.02)
    desk = a_desk(Began("c", None), Text("Hello"), asyncio.Event(), drains=True)
    turn = await without_a_session(desk)
    await said(turn, 2)
    turn.left()
    await asyncio.wait_for(result_of(turn), 0.9)
    assert desk.only_settlement.usage.source == "estimated"


async def test_what_the_vendor_tells_as_it_begins_counts_also_after_the_stop() -> None:
    gate, later = asyncio.Event(), asyncio.Event()
    began = Began("c-9", None, Usage(input_tokens=77))
    desk = a_desk(gate, began, later, VendorFailed("openai"), drains=True)
    turn = await in_a_session(desk)
    await asyncio.sleep(0.01)
    turn.end(Outcome.STOPPED)
    gate.set()
    later.set()
    await result_of(turn)
    settlement = desk.only_settlement
    assert (settlement.usage.input_tokens, settlement.provider_request_id) == (77, "c-9")
