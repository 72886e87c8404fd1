"""What a turn is charged for: what the vendor told, what was seen, and what was never asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from services.chat.domain.errors import ContentBlocked
from services.chat.domain.frames import Began, Ended, Frame, Text, Thinking, ToolCallPiece
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Outcome
from services.chat.domain.turn_events import Answered, Broken
from services.chat.domain.usage import Usage
from shared.tiers import TIERS
from shared.vendors.failures import (
    VendorFailed,
    VendorOverloaded,
    VendorRateLimited,
)
from tests.support.chat import (
    ScriptedProvider,
    a_question,
    an_answer,
)
from tests.support.chat_turns import (
    SESSION,
    TOLD,
    a_desk,
    in_a_session,
    result_of,
    said,
    without_a_session,
)


async def test_what_waits_to_ask_again_is_charged_nothing_when_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    desk = a_desk(VendorOverloaded("In trouble.", provider="openai"))
    monkeypatch.setattr(desk.time, "sleep", sleep)
    turn = await in_a_session(desk)
    await waiting.wait()

    turn.end(Outcome.STOPPED)
    await result_of(turn)

    assert desk.outcome is Outcome.STOPPED
    assert desk.only_settlement.usage == Usage(source="counted")


async def test_whoever_leaves_early_is_charged_what_the_vendor_has_told() -> None:
    told = Usage(100_000, cache_read_tokens=99_000, output_tokens=1)
    for turn_of in (in_a_session, without_a_session):
        desk = a_desk(Began("c", None, told), Text("Hello wo"), asyncio.Event())
        turn = await turn_of(desk)
        await said(turn, 2)
        turn.end(Outcome.STOPPED)
        await result_of(turn)
        usage = Usage(100_000, cache_read_tokens=99_000, output_tokens=2, source="estimated")
        assert desk.only_settlement.usage == usage
        assert desk.admission.reservations[0].settled == [(100_002, 7)]


async def test_whoever_saw_it_think_is_charged_for_that() -> None:
    desk = a_desk(Began("c", None), Thinking("Hm, well"), asyncio.Event())
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"], stream=True))
    assert isinstance(turn, RunningTurn)
    await said(turn, 2)
    turn.end(Outcome.STOPPED)
    await result_of(turn)
    (place,) = desk.admission.reservations
    assert (len(place.settled), place.refunds) == (1, 0)
    assert not desk.only_settlement.has_content


async def test_where_thinking_is_not_shown_it_costs_money_alone() -> None:
    desk = a_desk(Began("c", None), Thinking("Hm, well"), asyncio.Event())
    turn = await without_a_session(desk)
    await said(turn, 2)
    turn.end(Outcome.CLIENT_GONE)
    await result_of(turn)
    (place,) = desk.admission.reservations
    assert (place.settled, place.refunds, place.spent) == ([], 1, 7)


async def test_thinking_that_was_shown_before_another_try_is_forgotten_with_it() -> None:
    script = (Began("c", None), Thinking("Hm, well"), VendorRateLimited("No.", provider="openai"))
    desk = a_desk(*script)
    desk.provider = ScriptedProvider(*script, then=[[Began("d", None), Ended("stop", TOLD)]])
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"], stream=True))
    assert isinstance(turn, RunningTurn)
    await result_of(turn)
    (place,) = desk.admission.reservations
    assert (place.settled, place.refunds, place.spent) == ([], 1, 7)


async def test_what_is_stopped_before_it_was_asked_is_charged_nothing() -> None:
    desk = a_desk(*an_answer("Hello"))
    turn = await in_a_session(desk)
    turn.end(Outcome.STOPPED)
    await result_of(turn)
    assert desk.only_settlement.usage == Usage(source="counted")


async def test_what_was_asked_may_be_charged_though_nothing_came() -> None:
    desk = a_desk(asyncio.Event())
    turn = await in_a_session(desk)
    await asyncio.sleep(0)
    turn.end(Outcome.STOPPED)
    await result_of(turn)
    usage = desk.only_settlement.usage
    assert (usage.source, usage.input_tokens > 0) == ("estimated", True)


async def test_a_request_that_can_not_be_made_is_charged_nothing() -> None:
    desk = a_desk(*an_answer("Hello"))

    def unwritten(*_: object, **__: object) -> AsyncIterator[Frame]:
        raise RuntimeError("a bug before anybody was asked")

    desk.provider.answer = unwritten  # type: ignore[method-assign]
    result = await result_of(await in_a_session(desk))
    assert isinstance(result, Broken)
    assert (desk.outcome, list(desk.turns.facts)) == (Outcome.REFUSED, [])
    assert desk.admission.reservations[0].refunds == 1


async def test_a_bug_after_the_vendor_was_asked_may_be_charged() -> None:
    desk = a_desk(Began("c", None), RuntimeError("a bug"))
    await result_of(await in_a_session(desk))
    assert desk.outcome is Outcome.PROVIDER_FAILED
    assert len(desk.turns.facts) == 1


async def test_what_is_late_while_it_waits_to_ask_again_is_charged_nothing() -> None:
    wait = timedelta(seconds=5)
    desk = a_desk(VendorRateLimited("Later.", provider="openai", retry_after=wait))
    desk.longest = timedelta(seconds=0.05)
    desk.time.sleep = asyncio.sleep  # type: ignore[assignment,method-assign]
    result = await result_of(await in_a_session(desk))
    assert isinstance(result, Broken)
    assert result.failure.code == "turn_too_long"
    assert (desk.outcome, list(desk.turns.facts)) == (Outcome.REFUSED, [])


async def test_what_was_said_is_charged_though_a_busy_vendor_broke_off_after_the_stop() -> None:
    more = asyncio.Event()
    busy = VendorOverloaded("In trouble.", provider="openai")
    desk = a_desk(Began("c", None), Text("Hello"), more, busy, drains=True)
    turn = await without_a_session(desk)
    await turn.more(1)
    turn.end(Outcome.STOPPED)
    more.set()
    await turn.result()
    await desk.running.drained(1)
    usage = desk.only_settlement.usage
    assert (desk.outcome, usage.source) == (Outcome.STOPPED, "estimated")
    assert usage.output_tokens > 0


async def test_of_what_nobody_counted_no_more_is_charged_than_was_allowed() -> None:
    desk = a_desk(Began("c", None), Text("word" * 2_000), Ended("stop", None))
    await result_of(await without_a_session(desk))
    usage = desk.only_settlement.usage
    assert (usage.source, usage.output_tokens) == ("estimated", 1_000)


async def test_a_blocked_answer_tells_why_and_is_billed_as_the_vendor_counted() -> None:
    ratings = {"harm": "HIGH"}
    desk = a_desk(
        Began("c", None), Ended("content_filter", TOLD, ratings, why="PROHIBITED_CONTENT")
    )
    with capture_logs() as logs:
        result = await result_of(await in_a_session(desk))
    told = [(line["outcome"], line["why"]) for line in logs if line["event"] == "nothing_answered"]
    assert told == [("content_blocked", "PROHIBITED_CONTENT")]
    assert isinstance(result, Broken)
    assert isinstance(result.failure, ContentBlocked)
    assert result.failure.facts["ratings"] == ratings
    assert result.failure.facts["why"] == "PROHIBITED_CONTENT"
    assert (desk.outcome, desk.only_settlement.finish_reason) == (
        Outcome.CONTENT_BLOCKED,
        "content_filter",
    )
    (fact,) = desk.turns.facts
    assert fact.event.input_tokens == 11
    assert [(r.refunds, r.spent) for r in desk.admission.reservations] == [(1, 7)]


@pytest.mark.parametrize("why", ["sk-proj-0123456789abcdef", "a b", "", "a" * 65])
async def test_what_could_be_more_than_a_word_of_the_vendors_is_not_repeated(why: str) -> None:
    desk = a_desk(Began("c", None), Ended("content_filter", TOLD, why=why))
    with capture_logs() as logs:
        result = await result_of(await in_a_session(desk))
    assert isinstance(result, Broken)
    assert result.failure.facts["why"] is None
    assert [line["why"] for line in logs if line["event"] == "nothing_answered"] == [None]


async def test_what_went_wrong_at_the_vendor_and_said_nothing_is_no_answer() -> None:
    desk = a_desk(Began("c", None), Thinking("Hm"), Ended("other", TOLD, why="MALFORMED_RESPONSE"))
    result = await result_of(await in_a_session(desk))
    assert isinstance(result, Broken)
    assert isinstance(result.failure, VendorFailed)
    assert (desk.outcome, desk.only_settlement.usage) == (Outcome.PROVIDER_FAILED, TOLD)
    desk = a_desk(Began("c", None), Text("Half of"), Ended("other", TOLD))
    assert isinstance(await result_of(await in_a_session(desk)), Answered)
    assert desk.only_settlement.finish_reason == "other"


async def test_an_empty_answer_is_an_answer_and_free_of_limits() -> None:
    desk = a_desk(Began("c", None), Thinking("Hm"), Ended("length", TOLD))
    turn = await in_a_session(desk)
    result = await result_of(turn)
    assert isinstance(result, Answered)
    assert (result.finish_reason, desk.outcome) == ("length", Outcome.DONE)
    assert [(r.refunds, r.spent) for r in desk.admission.reservations] == [(1, 7)]


async def test_what_is_late_before_its_first_word_may_be_charged() -> None:
    desk = a_desk(asyncio.Event())
    desk.longest = timedelta(seconds=0.01)
    await result_of(await in_a_session(desk))
    assert (desk.outcome, len(desk.turns.facts)) == (Outcome.PROVIDER_FAILED, 1)


async def test_what_a_tool_was_asked_counts_when_it_is_stopped() -> None:
    call = ToolCallPiece(0, "call-1", "look_up", "x" * 40)
    desk = a_desk(Began("c", None), call, asyncio.Event())
    turn = await in_a_session(desk)
    await said(turn, 2)
    turn.end(Outcome.STOPPED)
    await result_of(turn)
    assert desk.only_settlement.usage.output_tokens == 10
