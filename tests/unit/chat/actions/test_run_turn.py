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
from services.chat.domain import running_turn
from services.chat.domain.capabilities import Capabilities, OnLeaving
from services.chat.domain.content import Thought
from services.chat.domain.errors import AnswerLost
from services.chat.domain.frames import (
    Began,
    Ended,
    Frame,
    Text,
    Thinking,
    Thoughts,
    ToolCallPiece,
)
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.stored_answer import from_stored
from services.chat.domain.turn import Outcome, Prompt
from services.chat.domain.turn_events import Answered, Broken
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
    MemoryReservation,
    MemoryTurns,
    ScriptedProvider,
    ScriptStep,
    a_question,
    ada,
    an_answer,
    falling_back,
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


async def test_an_answer_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_read_answer, "LONGEST_ANSWER", 100)
    desk = a_desk(Began("c", None), *[Text("and on ")] * 100, Ended("stop", TOLD))
    result = await result_of(await in_a_session(desk))
    assert isinstance(result, Broken)
    assert desk.outcome is Outcome.PROVIDER_FAILED
    assert len(desk.only_settlement.text) == 105


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


async def test_a_settlement_is_asked_for_before_its_counters_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = a_desk(*an_answer("Hello"))
    told: list[str] = []
    settle, give_back = desk.turns.settle, MemoryReservation.settle

    async def settled(*parts: object) -> bool:
        told.append("asked")
        await asyncio.sleep(0)
        return await settle(*parts)  # type: ignore[arg-type]

    async def counted(self: MemoryReservation, **used: int | None) -> None:
        told.append("counted")
        await give_back(self, **used)  # type: ignore[arg-type]

    monkeypatch.setattr(desk.turns, "settle", settled)
    monkeypatch.setattr(MemoryReservation, "settle", counted)
    assert isinstance(await result_of(await in_a_session(desk)), Answered)
    assert told == ["asked", "counted"]


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


async def test_what_follows_an_end_that_was_told_twice_can_still_run_out_of_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # On Python before 3.11.4 a time limit is none within a task that is still being cancelled.
    desk = a_desk(Began("c", None), Text("Hello"), asyncio.Event())
    turn = await in_a_session(desk)
    await said(turn, 2)

    async def never(**_used: object) -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    monkeypatch.setattr(desk.admission.reservations[0], "settle", never)
    turn.end(Outcome.STOPPED)
    turn.end(Outcome.STOPPED, at_once=True)
    with capture_logs() as logs:
        result = await result_of(turn)
    assert isinstance(result, Answered)
    assert [line["event"] for line in logs] == ["place_not_given_back"]


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


async def test_the_answer_of_a_call_is_kept_for_its_key() -> None:
    thoughts = (Thought("openai", {"type": "reasoning", "encrypted_content": "x"}),)
    desk = a_desk(Began("c", None), Text("Hello"), Thoughts(thoughts), Ended("stop", TOLD))
    turn = await without_a_session(desk, key="k")
    await result_of(turn)
    stored = desk.only_settlement.stored_answer
    assert stored is not None
    last = from_stored(turn.hold, stored)[-1]
    assert isinstance(last, Answered)
    assert (last.message.content, last.message.thoughts) == ("Hello", thoughts)
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


async def test_an_answer_without_its_end_is_none() -> None:
    desk = a_desk(Began("c", None), Text("Hello"))
    result = await result_of(await in_a_session(desk))
    assert isinstance(result, Broken)
    assert isinstance(result.failure, VendorFailed)
    assert desk.outcome is Outcome.PROVIDER_FAILED
