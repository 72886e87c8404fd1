"""Retry, fallback and breaker: how a turn comes to its answer, and what every attempt leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.chat.actions.take_turn import Replayed
from services.chat.domain.capabilities import Capabilities
from services.chat.domain.content import ImagePart, Role, Tool, Utterance
from services.chat.domain.errors import ModelUnavailable, PromptTooLong, VendorRejectedRequest
from services.chat.domain.frames import Began, Ended, Text, Thinking
from services.chat.domain.known_key import KnownKey
from services.chat.domain.question import Question
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Outcome
from services.chat.domain.turn_events import Answered, Broken, FellBack
from services.chat.domain.usage import Usage
from shared.clients.egress import KeyRefused, KeysWithheld, KeyUsedTooOften
from shared.errors import DependencyUnavailable, ExpectedFailure
from shared.identity import OnBehalfOf
from shared.revocation import Revocation
from shared.tiers import TIERS, TierChanged
from shared.vendors.failures import (
    NoUsableKey,
    VendorFailed,
    VendorOverloaded,
    VendorPlanRequired,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)
from tests.support.chat import (
    NOON,
    Desk,
    MemoryAdmission,
    MemoryKnownKeys,
    MemoryPreferences,
    MemoryTurns,
    MemoryWork,
    ScriptedProvider,
    ScriptStep,
    a_question,
    a_session,
    ada,
    an_answer,
    falling_back,
)

SESSION = a_session()
HELLO = an_answer("Hello")
OVERLOADED = VendorOverloaded("In trouble.", provider="openai")
OVERLOADED_THERE = VendorOverloaded("In trouble.", provider="gemini")
UNSENT = VendorFailed("openai", billed=False)
CUT = VendorFailed("openai")


def limited(**parts: object) -> VendorRateLimited:
    return VendorRateLimited("Slow down.", provider="openai", **parts)  # type: ignore[arg-type]


def a_desk(
    *scripts: Sequence[ScriptStep],
    gemini: Sequence[ScriptStep] | None = None,
    wishes: bool = False,
) -> Desk:
    """A user whose openai answers by these scripts, one an attempt, and who may wish that gemini
    answers in its place."""
    openai = ScriptedProvider(*scripts[0], then=scripts[1:])
    other = ScriptedProvider(*(gemini or an_answer("Instead")), name="gemini")
    return Desk(
        MemoryTurns(SESSION),
        openai,
        others={"gemini": other},
        work=falling_back("gemini") if wishes else MemoryWork(),
    )


async def last_event(desk: Desk, question: Question | None = None) -> Answered | Broken:
    question = question or a_question(SESSION, tier=TIERS["pro"])
    turn = await desk.take_turn(question)
    assert isinstance(turn, RunningTurn)
    return await asyncio.wait_for(turn.result(), 5)


def attempts(desk: Desk) -> tuple[int, int]:
    """How often each of the two was asked."""
    openai, gemini = desk.provider, desk.others["gemini"]
    assert isinstance(openai, ScriptedProvider)
    assert isinstance(gemini, ScriptedProvider)
    return len(openai.prompts), len(gemini.prompts)


@pytest.mark.parametrize(
    "failure",
    [
        OVERLOADED,
        limited(),
        UNSENT,
        VendorRefused("Odd.", provider="openai", again=True),
    ],
)
async def test_what_may_pass_is_tried_again(failure: ExpectedFailure) -> None:
    desk = a_desk([failure], [failure], HELLO)

    result = await last_event(desk)

    assert isinstance(result, Answered)
    assert result.message.content == "Hello"
    assert attempts(desk) == (3, 0)
    assert desk.time.slept == [0.5, 1.0]
    assert desk.work.known_keys.looks == 0
    assert len(desk.turns.facts) == 1


async def test_two_retries_are_all() -> None:
    desk = a_desk([OVERLOADED])

    result = await last_event(desk)

    assert isinstance(result, Broken)
    assert result.failure is OVERLOADED
    assert attempts(desk) == (3, 0)
    assert desk.outcome is Outcome.REFUSED
    assert desk.turns.facts == []
    assert [r.times_given_back for r in desk.admission.reservations] == [1]


@pytest.mark.parametrize(
    "failure",
    [
        CUT,
        VendorQuotaExhausted("No credit.", provider="openai"),
        VendorQuotaExhausted("No credit.", provider="openai", again=True),
        VendorPlanRequired("Larger plan.", provider="openai"),
        VendorRejectedRequest("Bad.", provider="openai", again=True),
        ModelUnavailable("No such.", provider="openai"),
        VendorRefused("Region.", provider="openai"),
        limited(again=False),
        VendorOverloaded("In trouble.", provider="openai", again=False),
        NoUsableKey("None."),
        KeysWithheld("Held back."),
        KeyUsedTooOften("Too often.", retry_after=timedelta(seconds=1)),
        KeyRefused("No."),
        DependencyUnavailable("keyvault"),
    ],
)
async def test_what_is_the_same_a_second_later_is_not_tried_again(
    failure: ExpectedFailure,
) -> None:
    desk = a_desk([failure])

    result = await last_event(desk)

    assert isinstance(result, Broken)
    assert result.failure is failure
    assert attempts(desk) == (1, 0)
    assert desk.time.slept == []


async def test_the_vendors_own_wait_comes_first() -> None:
    desk = a_desk([limited(retry_after=timedelta(seconds=3))], HELLO)
    assert isinstance(await last_event(desk), Answered)
    assert desk.time.slept == [3.0]


async def test_a_wait_beyond_the_budget_is_told_and_not_waited() -> None:
    failure = limited(retry_after=timedelta(seconds=31))
    desk = a_desk([failure], HELLO)

    result = await last_event(desk)

    assert isinstance(result, Broken)
    assert result.failure is failure
    assert desk.time.slept == []


async def test_waits_add_up_to_the_budget() -> None:
    slow = limited(retry_after=timedelta(seconds=20))
    desk = a_desk([slow], [slow], HELLO)

    assert isinstance(await last_event(desk), Broken)
    assert desk.time.slept == [20.0]


async def test_a_long_wait_is_not_waited_when_another_provider_can_answer() -> None:
    desk = a_desk([limited(retry_after=timedelta(seconds=20))], HELLO, wishes=True)

    result = await last_event(desk)

    assert isinstance(result, Answered)
    assert result.fallback_from == "openai"
    assert desk.time.slept == []


@pytest.mark.parametrize(
    "failure",
    [
        OVERLOADED,
        VendorQuotaExhausted("No credit.", provider="openai"),
        ModelUnavailable("No such.", provider="openai"),
        NoUsableKey("None."),
        UNSENT,
        CUT,
    ],
)
async def test_another_provider_answers_where_the_user_wants_that(
    failure: ExpectedFailure,
) -> None:
    desk = a_desk([failure], wishes=True)
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)

    result = await asyncio.wait_for(turn.result(), 5)

    assert isinstance(result, Answered)
    assert (result.message.content, result.message.provider) == ("Instead", "gemini")
    assert result.fallback_from == "openai"
    said = [event for event in turn.events if isinstance(event, FellBack)]
    assert said == [FellBack("gemini", desk.turns.holds[turn.turn_id].model, "openai")]
    settlement = desk.only_settlement
    assert (settlement.provider, settlement.fallback_from) == ("gemini", "openai")
    assert desk.turns.holds[turn.turn_id].provider == "gemini"


async def test_the_place_moves_along_with_the_turn() -> None:
    desk = a_desk([OVERLOADED], wishes=True)
    await last_event(desk)

    assert [r.provider for r in desk.admission.requests] == ["openai", "gemini"]
    first, second = desk.admission.reservations
    assert (first.refunds, first.settled) == (1, [])
    assert (second.refunds, len(second.settled)) == (0, 1)
    ids = [request.reservation for request in desk.admission.requests]
    assert ids[0] != ids[1]


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


@pytest.mark.parametrize(
    "failure",
    [
        VendorRejectedRequest("Bad.", provider="openai"),
        KeysWithheld("Held back."),
        KeyUsedTooOften("Too often.", retry_after=timedelta(seconds=1)),
        KeyRefused("No."),
        DependencyUnavailable("keyvault"),
        DependencyUnavailable("egress"),
    ],
)
async def test_what_we_refuse_is_no_reason_to_ask_another_provider(
    failure: ExpectedFailure,
) -> None:
    desk = a_desk([failure], wishes=True)
    result = await last_event(desk)
    assert isinstance(result, Broken)
    assert result.failure is failure
    assert attempts(desk) == (1, 0)


async def test_nothing_is_tried_again_after_the_first_content() -> None:
    desk = a_desk([Began("c", None), Text("So far"), OVERLOADED], wishes=True)

    result = await last_event(desk)

    assert isinstance(result, Broken)
    assert result.message is not None
    assert result.message.content == "So far"
    assert attempts(desk) == (1, 0)
    assert desk.outcome is Outcome.PROVIDER_FAILED
    (fact,) = desk.turns.facts
    assert fact.event.source == "estimated"


async def test_when_all_fail_the_one_that_was_asked_is_told() -> None:
    quota = VendorQuotaExhausted("No credit.", provider="openai")
    desk = a_desk([quota], gemini=[NoUsableKey("None.")], wishes=True)

    result = await last_event(desk)

    assert isinstance(result, Broken)
    assert result.failure is quota
    assert desk.outcome is Outcome.REFUSED
    assert [r.times_given_back for r in desk.admission.reservations] == [1, 1]


async def test_the_users_order_counts() -> None:
    desk = a_desk([NoUsableKey("None.")])
    desk.work = falling_back("anthropic", "gemini")
    desk.others = {"anthropic": ScriptedProvider(*HELLO, name="anthropic"), **desk.others}
    result = await last_event(desk)
    assert result.message is not None
    assert result.message.provider == "anthropic"


async def test_a_full_window_there_leads_on_to_the_next() -> None:
    desk = a_desk([NoUsableKey("None.")])
    desk.admission = MemoryAdmission(full={"anthropic"})
    desk.work = falling_back("anthropic", "gemini")
    result = await last_event(desk)
    assert result.message is not None
    assert result.message.provider == "gemini"
    assert [r.times_given_back for r in desk.admission.reservations] == [1, 1]


async def test_when_no_place_is_free_anywhere_the_first_failure_is_told() -> None:
    failure = NoUsableKey("None.")
    desk = a_desk([failure], wishes=True)
    desk.admission = MemoryAdmission(full={"gemini"})
    result = await last_event(desk)
    assert isinstance(result, Broken)
    assert result.failure is failure
    assert [r.times_given_back for r in desk.admission.reservations] == [1]


@pytest.mark.parametrize(
    "work",
    [
        MemoryWork(MemoryPreferences("gemini")),
        MemoryWork(
            MemoryPreferences("gemini"), MemoryKnownKeys(KnownKey(ada, "gemini", 1, "invalid"))
        ),
        MemoryWork(
            MemoryPreferences("gemini"),
            MemoryKnownKeys(KnownKey(ada, "gemini", 1, "valid", ("another-model",))),
        ),
        MemoryWork(
            MemoryPreferences("gemini"),
            MemoryKnownKeys(KnownKey(uuid4(), "gemini", 1, "valid")),  # type: ignore[arg-type]
        ),
        MemoryWork(MemoryPreferences(), MemoryKnownKeys(KnownKey(ada, "gemini", 1, "valid"))),
        MemoryWork(MemoryPreferences("gemini"), is_away=True),
        falling_back("openai"),
        falling_back("nobody"),
    ],
    ids=["no key", "bad key", "not its model", "another's", "no wish", "away", "itself", "unknown"],
)
async def test_nobody_is_asked_who_could_not_answer(work: MemoryWork) -> None:
    failure = NoUsableKey("None.")
    desk = a_desk([failure])
    desk.work = work
    result = await last_event(desk)
    assert isinstance(result, Broken)
    assert result.failure is failure
    assert attempts(desk) == (1, 0)


async def test_an_organisations_key_will_do() -> None:
    firm = uuid4()
    desk = a_desk([NoUsableKey("None.")])
    desk.work = falling_back("gemini", owner=firm)
    by = OnBehalfOf(ada, "request-1", "token", UUID(int=9), served_by=firm)
    question = replace(a_question(SESSION, tier=TIERS["pro"]), by=by)
    assert isinstance(await last_event(desk, question), Answered)


async def test_a_tier_that_lacks_the_provider_keeps_to_its_own() -> None:
    desk = a_desk([NoUsableKey("None.")], wishes=True)
    result = await last_event(desk, a_question(SESSION, tier=TIERS["free"]))
    assert isinstance(result, Broken)
    assert attempts(desk) == (1, 0)


@pytest.mark.parametrize(
    "needs",
    [
        {"tools": [Tool("look_up", None, {"type": "object"})]},
        {"images": [ImagePart("image/png", b"png")]},
    ],
)
async def test_what_the_prompt_needs_the_other_must_be_able_to_do(
    needs: dict[str, Any],
) -> None:
    # Gemini has neither in the pro tier, but both in the enterprise one.
    for tier, expected in (("pro", (1, 0)), ("enterprise", (1, 1))):
        desk = a_desk([NoUsableKey("None.")], wishes=True)
        question = a_question(SESSION, tier=TIERS[tier], **needs)
        await last_event(desk, question)
        assert attempts(desk) == expected


async def test_what_its_wire_can_not_do_it_is_not_asked_for() -> None:
    desk = a_desk([NoUsableKey("None.")], wishes=True)
    plain = desk.others["gemini"]
    assert isinstance(plain, ScriptedProvider)
    plain.capabilities = Capabilities(tools=False)
    tools = [Tool("look_up", None, {"type": "object"})]
    await last_event(desk, a_question(SESSION, tier=TIERS["enterprise"], tools=tools))
    assert attempts(desk) == (1, 0)


async def test_the_answer_is_no_longer_than_was_asked_for() -> None:
    desk = a_desk([NoUsableKey("None.")], wishes=True)
    await last_event(desk)
    gemini = desk.others["gemini"]
    assert isinstance(gemini, ScriptedProvider)
    (prompt,) = gemini.prompts
    assert prompt.choice.max_output_tokens == 4_000  # openai's of this tier; gemini has 8,000


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


async def test_the_other_provider_has_retries_of_its_own() -> None:
    desk = a_desk([OVERLOADED], wishes=True)
    trouble = VendorOverloaded("In trouble.", provider="gemini")
    other = ScriptedProvider(trouble, then=[[trouble], an_answer("Instead")], name="gemini")
    desk.others = {"gemini": other}
    assert isinstance(await last_event(desk), Answered)
    assert attempts(desk) == (3, 3)


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


async def test_a_prompt_that_is_too_long_is_tried_once_more_with_less_history() -> None:
    too_long = PromptTooLong("Too long.", provider="openai")
    desk = a_desk([too_long], HELLO)
    desk.turns.history = [
        Utterance(role, f"{role} {n}") for n in range(4) for role in (Role.USER, Role.ASSISTANT)
    ]
    result = await last_event(desk)

    assert isinstance(result, Answered)
    provider = desk.provider
    assert isinstance(provider, ScriptedProvider)
    first, second = provider.prompts
    assert len(first.utterances) == 9
    assert 1 <= len(second.utterances) <= 5
    assert second.utterances[0].role is Role.USER
    assert second.utterances[-1] == first.utterances[-1]


async def test_a_question_that_is_too_long_by_itself_is_refused() -> None:
    too_long = PromptTooLong("Too long.", provider="openai")
    desk = a_desk([too_long], HELLO, wishes=True)
    result = await last_event(desk)
    assert isinstance(result, Broken)
    assert result.failure is too_long
    assert attempts(desk) == (1, 0)


async def test_it_is_shortened_only_once() -> None:
    too_long = PromptTooLong("Too long.", provider="openai")
    desk = a_desk([too_long])
    desk.turns.history = [
        Utterance(role, f"{role} {n}") for n in range(8) for role in (Role.USER, Role.ASSISTANT)
    ]
    assert isinstance(await last_event(desk), Broken)
    assert attempts(desk) == (2, 0)


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


async def test_the_other_providers_key_ends_the_turn_from_then_on() -> None:
    never = asyncio.Event()
    desk = a_desk([NoUsableKey("None.")], gemini=[Text("So far"), never], wishes=True)
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)
    while len(turn.events) < 3:
        await turn.more(len(turn.events))

    assert desk.running.end_on_key(Revocation(ada, "openai", NOON), Outcome.STOPPED) == 0
    assert desk.running.end_on_key(Revocation(ada, "gemini", NOON), Outcome.STOPPED) == 1
    await asyncio.wait_for(turn.result(), 5)
    assert desk.outcome is Outcome.STOPPED
    assert desk.only_settlement.provider == "gemini"


async def test_the_reservation_that_is_kept_alive_is_the_one_that_is_held() -> None:
    desk = a_desk([NoUsableKey("None.")], gemini=[Text("So far"), asyncio.Event()], wishes=True)
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)
    while len(turn.events) < 3:
        await turn.more(len(turn.events))
    assert desk.running.reservations() == [(ada, desk.admission.requests[-1].reservation)]
    await desk.running.drained(0)


async def test_of_an_attempt_that_was_left_nothing_is_kept() -> None:
    desk = a_desk(
        [Began("c-1", "odd-model"), Thinking("Hm"), OVERLOADED],
        [Ended("stop", None)],
    )
    await last_event(desk)
    settlement = desk.only_settlement
    assert (settlement.provider_request_id, settlement.usage.output_tokens) == (None, 0)
    assert settlement.model != "odd-model"


async def test_a_replay_tells_who_answered() -> None:
    desk = a_desk([NoUsableKey("None.")], wishes=True)
    question = a_question(SESSION, tier=TIERS["pro"], idempotency_key="k")
    await last_event(desk, question)
    again = await desk.take_turn(question)
    assert isinstance(again, Replayed)
    assert isinstance(again.result, Answered)
    assert again.result.fallback_from == again.fallback_from == "openai"
    assert [type(e).__name__ for e in again.events()] == [
        "Started",
        "Delta",
        "UsageTold",
        "Answered",
    ]


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


@pytest.mark.parametrize("no_place", [DependencyUnavailable("cache"), TierChanged("free")])
async def test_without_a_place_elsewhere_the_first_failure_is_told(
    monkeypatch: pytest.MonkeyPatch, no_place: Exception
) -> None:
    desk = a_desk([CUT], wishes=True)
    admit = desk.admission.admit

    async def at_openai_alone(request: Any, **more: Any) -> Any:
        if request.provider != "openai":
            raise no_place
        return await admit(request, **more)

    monkeypatch.setattr(desk.admission, "admit", at_openai_alone)
    told = await last_event(desk)
    assert isinstance(told, Broken)
    assert told.failure is CUT


@pytest.mark.parametrize("last", [[CUT], an_answer("At last")])
async def test_of_three_the_one_that_was_asked_is_named(last: Sequence[ScriptStep]) -> None:
    desk = a_desk([CUT], gemini=[OVERLOADED_THERE])
    anthropic = ScriptedProvider(*last, name="anthropic")
    desk.others = {**desk.others, "anthropic": anthropic}
    desk.work = falling_back("gemini", "anthropic")
    told = await last_event(desk)
    assert len(anthropic.prompts) == 1
    if isinstance(told, Broken):
        assert told.failure is CUT
    else:
        assert (told.message.provider, told.fallback_from) == ("anthropic", "openai")
