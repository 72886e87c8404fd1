"""One terminal record of each turn, whatever the vendor, the user and the process do."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.chat.actions import _read_answer
from services.chat.actions._read_answer import Drains
from services.chat.actions.open_turn import Opening
from services.chat.domain import running_turn
from services.chat.domain.capabilities import Capabilities, OnLeaving
from services.chat.domain.content import Role, Utterance
from services.chat.domain.errors import AnswerLost, ContentBlocked
from services.chat.domain.frames import Began, Ended, Frame, Text, Thinking, ToolCallPiece
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.stored_answer import from_stored
from services.chat.domain.turn import Outcome, Prompt, Surface
from services.chat.domain.turn_events import Answered, Broken
from services.chat.domain.usage import Usage
from shared.errors import DependencyUnavailable, ExpectedFailure
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.revocation import KeyInUse, Revocation, UsedKey
from shared.tiers import TIERS
from shared.vendors.failures import (
    NoUsableKey,
    VendorFailed,
    VendorOverloaded,
    VendorQuotaExhausted,
    VendorRateLimited,
)
from tests.support.chat import (
    Desk,
    MemoryTurns,
    ScriptedProvider,
    ScriptStep,
    a_question,
    a_session,
    ada,
    an_answer,
    falling_back,
)

SESSION = a_session()
BY = OnBehalfOf(ada, "request-1", "token", UUID(int=9))
TOLD = Usage(input_tokens=11, output_tokens=22)


def a_desk(*script: ScriptStep, drains: bool = False) -> Desk:
    provider = ScriptedProvider(*script)
    provider.capabilities = Capabilities(on_leaving=OnLeaving.DRAIN if drains else OnLeaving.CANCEL)
    return Desk(MemoryTurns(SESSION), provider)


async def in_a_session(desk: Desk) -> RunningTurn:
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)
    return turn


async def without_a_session(desk: Desk, *, key: str | None = None) -> RunningTurn:
    choice = ModelChoice("openai", "gpt-6-luna", 1_000)
    prompt = Prompt(choice, None, [Utterance(Role.USER, "What is this?")], "someone")
    opening = Opening(
        by=BY,
        tier=TIERS["pro"],
        choice=choice,
        input_estimate=prompt.input_estimate,
        cap_microusd=None,
        surface=Surface.V1,
        idempotency_key=key,
        request_hash=b"hash",
    )
    return desk.run(await desk.open(opening), prompt, by=BY, stream=True)


async def said(turn: RunningTurn, events: int) -> None:
    while len(turn.events) < events:
        await turn.more(len(turn.events))


async def result_of(turn: RunningTurn) -> Answered | Broken:
    return await asyncio.wait_for(turn.result(), 5)


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


async def test_an_answer_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_read_answer, "LONGEST_ANSWER", 100)
    desk = a_desk(Began("c", None), *[Text("and on ")] * 100, Ended("stop", TOLD))
    result = await result_of(await in_a_session(desk))
    assert isinstance(result, Broken)
    assert desk.outcome is Outcome.PROVIDER_FAILED
    assert len(desk.only_settlement.text) == 105


async def test_of_what_nobody_counted_no_more_is_charged_than_was_allowed() -> None:
    desk = a_desk(Began("c", None), Text("word" * 2_000), Ended("stop", None))
    await result_of(await without_a_session(desk))
    usage = desk.only_settlement.usage
    assert (usage.source, usage.output_tokens) == ("estimated", 1_000)


async def test_an_answer_that_takes_longer_than_any_may_is_interrupted_and_counted() -> None:
    desk = a_desk(Began("c", None), Text("so far"), asyncio.Event())
    desk.longest = timedelta(seconds=0.01)
    result = await result_of(await in_a_session(desk))
    assert isinstance(result, Broken)
    assert result.failure.code == "turn_too_long"
    assert result.message is not None
    assert desk.outcome is Outcome.PROVIDER_FAILED
    assert desk.only_settlement.text == "so far"
    assert desk.only_settlement.usage.source == "estimated"


async def test_what_is_late_before_its_first_word_is_not_asked_for_again() -> None:
    desk = a_desk(asyncio.Event())
    desk.longest = timedelta(seconds=0.01)
    result = await result_of(await in_a_session(desk))
    assert isinstance(result, Broken)
    assert (result.failure.code, result.message) == ("turn_too_long", None)
    assert isinstance(desk.provider, ScriptedProvider)
    assert len(desk.provider.prompts) == 1


async def test_an_answer_that_was_whole_when_it_was_stopped_is_done() -> None:
    gate = asyncio.Event()
    desk = a_desk(*an_answer("Hello", usage=TOLD), gate)
    turn = await in_a_session(desk)
    await said(turn, 2)
    await asyncio.sleep(0)
    turn.end(Outcome.STOPPED)
    result = await result_of(turn)
    assert isinstance(result, Answered)
    assert (desk.outcome, result.finish_reason) == (Outcome.DONE, "stop")


async def test_an_end_during_settlement_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = a_desk(*an_answer("Hello"))
    settling, go_on = asyncio.Event(), asyncio.Event()
    settle = desk.turns.settle

    async def slowly(*parts: object) -> bool:
        settling.set()
        await go_on.wait()
        return await settle(*parts)  # type: ignore[arg-type]

    monkeypatch.setattr(desk.turns, "settle", slowly)
    turn = await in_a_session(desk)
    await settling.wait()
    turn.end(Outcome.STOPPED)
    turn.end(Outcome.STOPPED, at_once=True)
    go_on.set()
    assert isinstance(await result_of(turn), Answered)
    assert desk.outcome is Outcome.DONE
    assert len(desk.turns.facts) == 1


async def test_a_bug_in_settling_leaves_the_hold_to_the_sweeper_and_ends_the_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = a_desk(*an_answer("Hello"))

    async def broken(*_parts: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(desk.turns, "settle", broken)
    turn = await in_a_session(desk)
    result = await result_of(turn)
    assert isinstance(result, Broken)
    # Nor is it told as trouble of the database's, which answered.
    assert isinstance(result.failure, AnswerLost)
    await desk.running.drained(1)
    assert desk.running.progress() == {}
    assert [r.times_given_back for r in desk.admission.reservations] == [1]


async def test_limits_that_can_not_be_given_back_do_not_keep_a_turn_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = a_desk(*an_answer("Hello"))
    admit = desk.admission.admit

    async def broken(**_parts: object) -> None:
        raise ZeroDivisionError

    async def admitted(*parts: object, **more: object) -> object:
        reservation = await admit(*parts, **more)  # type: ignore[arg-type]
        monkeypatch.setattr(reservation, "settle", broken)
        return reservation

    monkeypatch.setattr(desk.admission, "admit", admitted)
    turn = await in_a_session(desk)
    assert isinstance(await result_of(turn), Answered)
    assert desk.outcome is Outcome.DONE


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


async def test_the_answer_of_a_call_is_kept_for_its_key() -> None:
    desk = a_desk(*an_answer("Hello"))
    turn = await without_a_session(desk, key="k")
    await result_of(turn)
    stored = desk.only_settlement.stored_answer
    assert stored is not None
    last = from_stored(turn.hold, stored)[-1]
    assert isinstance(last, Answered)
    assert last.message.content == "Hello"
    assert last.message.cost_microusd == 7


async def test_a_call_that_brought_nothing_frees_its_key() -> None:
    desk = a_desk(VendorFailed("openai"))
    turn = await without_a_session(desk, key="k")
    await result_of(turn)
    assert desk.only_settlement.stored_answer is None
    assert await desk.turns.earlier(UserId(ada), "k") is None


async def test_the_vendors_connection_is_closed_before_the_turn_is_over() -> None:
    desk = a_desk(Began("c", None), Text("Hello"), asyncio.Event())
    turn = await in_a_session(desk)
    await said(turn, 2)
    provider = desk.provider
    assert isinstance(provider, ScriptedProvider)
    turn.end(Outcome.STOPPED)
    await result_of(turn)
    assert provider.closed == 1


async def test_a_process_that_is_torn_down_leaves_no_generator_running(
    capsys: pytest.CaptureFixture[str],
) -> None:
    desk = a_desk(Began("c", None), Text("Hello"), asyncio.Event())
    turn = await in_a_session(desk)
    await said(turn, 2)
    (task,) = desk.running._tasks
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    gc.collect()
    provider = desk.provider
    assert isinstance(provider, ScriptedProvider)
    assert provider.closed == 1
    assert desk.turns.settled == {}  # it was not ended, so the hold waits for the sweeper
    assert "asynchronous generator" not in capsys.readouterr().err


FRAMES = st.sampled_from(
    [
        Began("c", "m"),
        Text(""),
        Text("Hello"),
        Thinking("Hm"),
        ToolCallPiece(0, "id", "tool", "{}"),
        ToolCallPiece(0, None, None, "{}"),
        Ended("stop", TOLD),
        Ended("length", None),
        Ended("content_filter", TOLD),
    ]
)
FAILURES = st.sampled_from(
    [
        VendorFailed("openai"),
        VendorFailed("openai", billed=False),
        VendorOverloaded("In trouble.", provider="openai"),
        VendorRateLimited("Slow down.", provider="openai"),
        VendorQuotaExhausted("No credit.", provider="openai"),
        NoUsableKey("None."),
        DependencyUnavailable("keyvault"),
        ZeroDivisionError(),
    ]
)
PAUSE = st.just(None)
SCRIPTS = st.lists(FRAMES | FAILURES | PAUSE, max_size=6)


class Halting(ScriptedProvider):
    """Also gives the others a turn between its frames, and waits for ever at the script's pause."""

    async def answer(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AsyncIterator[Frame]:
        async with aclosing(super().answer(prompt, by=by, stream=stream)) as frames:  # type: ignore[type-var]
            async for frame in frames:
                await asyncio.sleep(0)
                yield frame


def steps(script: Sequence[Frame | BaseException | None]) -> list[ScriptStep]:
    return [asyncio.Event() if step is None else step for step in script]


@given(
    scripts=st.lists(SCRIPTS, min_size=1, max_size=4),
    other=SCRIPTS,
    ends=st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from(list(Outcome)[2:4]), st.booleans()),
        max_size=3,
    ),
    drains=st.booleans(),
    has_session=st.booleans(),
    falls_back=st.booleans(),
    is_full=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_whatever_happens_it_is_settled_once_and_ends_once(
    scripts: list[list[Frame | BaseException | None]],
    other: list[Frame | BaseException | None],
    ends: list[tuple[int, Outcome, bool]],
    drains: bool,
    has_session: bool,
    falls_back: bool,
    is_full: bool,
) -> None:
    async def scenario() -> None:
        first, *rest = map(steps, scripts)
        provider = Halting(*first, then=rest)
        instead = Halting(*steps(other), name="gemini")
        if drains:
            provider.capabilities = Capabilities(on_leaving=OnLeaving.DRAIN)
        desk = Desk(MemoryTurns(SESSION), provider, others={"gemini": instead})
        if falls_back:
            desk.work = falling_back("gemini")
        if is_full:
            desk.admission.full = {"gemini"}
        turn = await (in_a_session(desk) if has_session else without_a_session(desk))
        at = 0
        for when, outcome, at_once in sorted(ends, key=lambda end: end[0]):
            for _ in range(when - at):
                await asyncio.sleep(0)
            at = when
            turn.end(outcome, at_once=at_once)
        for _ in range(60):
            await asyncio.sleep(0)
        await asyncio.wait_for(desk.running.drained(0), 5)
        check(desk, turn)
        assert provider.closed == len(provider.prompts)
        assert instead.closed == len(instead.prompts)

    with capture_logs():
        asyncio.run(scenario())


def check(desk: Desk, turn: RunningTurn) -> None:
    settlement = desk.only_settlement
    last = [e for e in turn.events if isinstance(e, Answered | Broken)]
    assert last == turn.events[-1:]
    assert {r.times_given_back for r in desk.admission.reservations} == {1}
    kept = [r for r in desk.admission.reservations if r.settled]
    assert len(kept) == (1 if settlement.has_content else 0)
    charged = 0 if settlement.outcome is Outcome.REFUSED else 1
    assert len(desk.turns.facts) == charged + len(settlement.abandoned)
    assert len({fact.id for fact in desk.turns.facts}) == len(desk.turns.facts)
    if isinstance(last[0], Broken):
        assert isinstance(last[0].failure, ExpectedFailure)
        assert (last[0].message is not None) == settlement.has_content
    else:
        assert last[0].message.content == settlement.text
    assert desk.running.progress() == {}


async def test_a_process_ends_though_its_database_stays_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running_turn, "_SETTLE_SECONDS", 0.01)
    desk = a_desk(*an_answer("Hello"))
    desk.turns.failing = 1_000
    turn = await in_a_session(desk)
    with capture_logs() as logs:
        await asyncio.wait_for(desk.running.drained(0), 5)
    assert [entry["event"] for entry in logs] == ["turns_left_unsettled"]
    assert list(desk.running.progress()) == [turn.turn_id]


async def test_what_is_late_before_its_first_word_may_be_charged() -> None:
    desk = a_desk(asyncio.Event())
    desk.longest = timedelta(seconds=0.01)
    await result_of(await in_a_session(desk))
    assert (desk.outcome, len(desk.turns.facts)) == (Outcome.PROVIDER_FAILED, 1)


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


async def test_it_ends_with_the_key_that_it_runs_on_and_no_other() -> None:
    key = KeyInUse()
    key.answered("openai", UsedKey(ada, "openai", 2).told)
    desk = a_desk(Began("c", None), Text("Hello"), asyncio.Event())
    question = a_question(SESSION, tier=TIERS["pro"])
    turn = await desk.take_turn(replace(question, by=replace(question.by, key=key)))
    assert isinstance(turn, RunningTurn)
    await said(turn, 2)
    old, new = (Revocation(ada, "openai", turn.created_at, version) for version in (1, 2))
    assert desk.running.end_on_key(old, Outcome.STOPPED) == 0
    assert desk.running.end_on_key(new, Outcome.STOPPED) == 1
    await result_of(turn)


async def test_it_ends_with_the_key_of_an_organisation_that_may_serve_it() -> None:
    firm = UUID(int=7)
    desk = a_desk(Began("c", None), Text("Hello"), asyncio.Event())
    question = a_question(SESSION, tier=TIERS["pro"])
    turn = await desk.take_turn(replace(question, by=replace(question.by, organisation_id=firm)))
    assert isinstance(turn, RunningTurn)
    await said(turn, 2)
    withdrawn = Revocation(UserId(firm), "openai", turn.created_at)
    assert desk.running.end_on_key(withdrawn, Outcome.STOPPED) == 1
    await result_of(turn)


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


async def test_an_answer_without_its_end_is_none() -> None:
    desk = a_desk(Began("c", None), Text("Hello"))
    result = await result_of(await in_a_session(desk))
    assert isinstance(result, Broken)
    assert isinstance(result.failure, VendorFailed)
    assert desk.outcome is Outcome.PROVIDER_FAILED


async def test_what_a_tool_was_asked_counts_when_it_is_stopped() -> None:
    call = ToolCallPiece(0, "call-1", "look_up", "x" * 40)
    desk = a_desk(Began("c", None), call, asyncio.Event())
    turn = await in_a_session(desk)
    await said(turn, 2)
    turn.end(Outcome.STOPPED)
    await result_of(turn)
    assert desk.only_settlement.usage.output_tokens == 10


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
