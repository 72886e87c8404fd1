"""Calls that bring their whole conversation along."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.chat.actions.answer_call import ReplayedCall
from services.chat.actions.drop_key import DropKey
from services.chat.domain.capabilities import Capabilities
from services.chat.domain.content import (
    AnswerFormat,
    ImagePart,
    Role,
    Thought,
    Tool,
    ToolCall,
    Utterance,
)
from services.chat.domain.errors import (
    AnswerNotKept,
    BadAttachment,
    CapabilityMissing,
    FeatureNotInTier,
    QuestionTooLong,
)
from services.chat.domain.frames import Began, Ended, Frame, Text, Thoughts, ToolCallPiece
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Outcome
from services.chat.domain.turn_events import Answered, Broken
from services.chat.domain.usage import Usage
from shared.errors import LimitReached
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.revocation import Revocation
from shared.tiers import TIERS
from shared.vendors.dropins import ModelNotFound
from shared.vendors.failures import VendorFailed, VendorRateLimited
from tests.support.chat import (
    NOON,
    Desk,
    MemoryAdmission,
    MemoryTurns,
    ScriptedProvider,
    ScriptStep,
    ada,
    an_answer,
    falling_back,
    grace,
)
from tests.support.chat_calls import MemoryThoughts, a_call, answering

LOOKUP = Tool("lookup", "Looks a word up.", {"type": "object"})
A_CALL: list[Frame] = [
    Began("msg_1", "claude-sonnet-5-5"),
    ToolCallPiece(0, "call-1", "lookup", "{}", signature="signed"),
    Thoughts((Thought("anthropic", {"type": "thinking"}),)),
    Ended("tool_calls", Usage(input_tokens=10, output_tokens=5)),
]


def a_desk(*script: ScriptStep) -> Desk:
    return Desk(MemoryTurns(), ScriptedProvider(*script))


async def result(asked: RunningTurn | ReplayedCall) -> Answered | Broken:
    return await (asked.turn() if isinstance(asked, ReplayedCall) else asked).result()


async def test_what_belongs_to_a_tool_call_is_kept_for_the_next_turn() -> None:
    desk, thoughts = a_desk(*A_CALL), MemoryThoughts()
    answer = answering(desk, thoughts)
    await result(await answer(a_call(tools=[LOOKUP])))

    ((calls, kept),) = thoughts.kept[ada]
    assert [call.signature for call in calls] == ["signed"]
    assert [thought.provider for thought in kept] == ["anthropic"]

    said = [
        Utterance(Role.USER, "What is this?"),
        Utterance(Role.ASSISTANT, "", tool_calls=[ToolCall("call-1", "lookup", "{}")]),
    ]
    await result(await answer(a_call(utterances=said)))
    assert isinstance(desk.provider, ScriptedProvider)
    asked = desk.provider.prompts[-1].utterances
    assert asked[1].tool_calls[0].signature == "signed"


async def test_it_is_kept_before_the_client_hears_of_the_call() -> None:
    class Slow(MemoryThoughts):
        async def keep(self, *parts: object) -> None:
            await asyncio.sleep(0.01)
            assert not turn.is_over
            assert not isinstance(turn.events[-1], Answered)
            await super().keep(*parts)  # type: ignore[arg-type]

    thoughts = Slow()
    asked = await answering(a_desk(*A_CALL), thoughts)(a_call(tools=[LOOKUP]))
    assert isinstance(asked, RunningTurn)
    turn = asked
    assert isinstance(await turn.result(), Answered)
    assert thoughts.kept


async def test_an_answer_does_not_wait_for_a_memory_that_fails() -> None:
    class Failing(MemoryThoughts):
        async def keep(self, *parts: object) -> None:
            raise ValueError("a bug")

    desk = a_desk(*A_CALL)
    asked = await answering(desk, Failing())(a_call(tools=[LOOKUP]))
    assert isinstance(await result(asked), Answered)
    assert desk.outcome is Outcome.DONE


async def test_of_an_answer_that_broke_nothing_is_kept() -> None:
    thoughts = MemoryThoughts()
    asked = await answering(a_desk(*A_CALL[:3], VendorFailed("openai")), thoughts)(
        a_call(tools=[LOOKUP])
    )
    assert isinstance(await result(asked), Broken)
    assert thoughts.kept == {}


async def test_what_certainly_is_too_long_is_refused_before_it_is_let_in() -> None:
    desk = a_desk(*an_answer("hi"))
    said = [Utterance(Role.USER, "word " * 400_001)]
    with pytest.raises(QuestionTooLong) as raised:
        await answering(desk)(a_call(utterances=said))
    assert raised.value.facts["most_tokens"] == 400_000
    assert desk.admission.requests == []
    assert desk.turns.holds == {}


async def test_what_may_fit_is_for_the_vendor_to_say() -> None:
    desk = a_desk(*an_answer("hi"))
    said = [Utterance(Role.USER, "word " * 390_000)]
    assert isinstance(await result(await answering(desk)(a_call(utterances=said))), Answered)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(ImagePart("image/png", b"\x89PNG\r\n\x1a\n" + bytes(6 << 20)), id="large"),
        pytest.param(ImagePart("image/png", b"no picture"), id="other bytes"),
        pytest.param(ImagePart(url="https://ada:secret@pictures.invalid/a.png"), id="credentials"),
    ],
)
async def test_an_image_that_can_not_be_sent_is_refused(image: ImagePart) -> None:
    with pytest.raises(BadAttachment):
        await answering(a_desk())(a_call(utterances=[Utterance(Role.USER, "this", parts=(image,))]))


async def test_what_the_provider_can_not_do_is_refused_before_it_is_let_in() -> None:
    class Plain(ScriptedProvider):
        capabilities = Capabilities(image_urls=False, answer_format=False)

    image = ImagePart(url="https://pictures.invalid/a.png")
    desk = Desk(MemoryTurns(), Plain(*an_answer("hi")))
    for parts in (
        {"utterances": [Utterance(Role.USER, "this", parts=(image,))]},
        {"answer_format": AnswerFormat()},
    ):
        with pytest.raises(CapabilityMissing):
            await answering(desk)(a_call(**parts))
    assert desk.turns.holds == {}


async def test_what_the_tier_lacks_is_refused_before_it_is_let_in() -> None:
    desk = a_desk(*an_answer("hi"))
    with pytest.raises(FeatureNotInTier):
        await answering(desk)(a_call(tier=TIERS["free"], tools=[LOOKUP]))
    with pytest.raises(ModelNotFound):
        await answering(desk)(a_call(model="nobody-1"))
    assert desk.turns.holds == {}


async def test_an_upgrade_counts_at_once() -> None:
    desk = Desk(
        MemoryTurns(), ScriptedProvider(*A_CALL), admission=MemoryAdmission(told="enterprise")
    )
    asked = await answering(desk)(a_call(tier=TIERS["free"], tools=[LOOKUP]))
    assert isinstance(await result(asked), Answered)
    assert [hold.tier for hold in desk.turns.holds.values()] == ["enterprise"]


async def test_the_answer_is_no_longer_than_was_asked_for_and_than_the_tier_grants() -> None:
    desk = a_desk(*an_answer("hi"))
    for wished in (7, 10_000_000):
        await result(await answering(desk)(a_call(max_output_tokens=wished)))
    assert isinstance(desk.provider, ScriptedProvider)
    most = [prompt.choice.max_output_tokens for prompt in desk.provider.prompts]
    assert most[0] == 7
    assert most[1] < 10_000_000


KEYED = {"idempotency_key": "order-66", "request_hash": b"hash"}


async def test_a_repeated_call_is_answered_once() -> None:
    desk = a_desk(*an_answer("You ", "said"))
    answer = answering(desk)
    first = await result(await answer(a_call(**KEYED)))
    again = await answer(a_call(**KEYED))
    assert isinstance(again, ReplayedCall)
    second = await result(again)
    assert isinstance(first, Answered)
    assert isinstance(second, Answered)
    assert second.message.content == first.message.content == "You said"
    assert (second.message.usage, second.finish_reason) == (first.message.usage, "stop")
    assert len(desk.turns.facts) == 1
    with pytest.raises(IdempotencyKeyReused):
        await answer(a_call(**{**KEYED, "request_hash": b"another"}))


async def test_while_a_call_runs_its_repetition_is_told_to_come_back() -> None:
    wait = asyncio.Event()
    answer = answering(a_desk(Began("x", "m"), wait, *an_answer("hi")[1:]))
    running = await answer(a_call(**KEYED))
    with pytest.raises(RequestInProgress):
        await answer(a_call(**KEYED))
    wait.set()
    await result(running)
    assert isinstance(await answer(a_call(**KEYED)), ReplayedCall)


async def test_concurrent_repetitions_ask_the_vendor_once() -> None:
    desk = a_desk(*an_answer("hi"))
    answer = answering(desk)
    asked = await asyncio.gather(
        *(answer(a_call(**KEYED)) for _ in range(5)), return_exceptions=True
    )
    turns = [one for one in asked if isinstance(one, RunningTurn)]
    assert len(turns) == 1
    assert all(isinstance(one, RequestInProgress) for one in asked if one not in turns)
    await result(turns[0])
    assert isinstance(desk.provider, ScriptedProvider)
    assert len(desk.provider.prompts) == 1
    # Whoever came second gave its place back.
    assert all(r.times_given_back == 1 for r in desk.admission.reservations)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([VendorRateLimited("No.", provider="openai", again=False)], id="refused"),
        pytest.param([Began("x", "m"), Text("half"), VendorFailed("openai")], id="cut"),
    ],
)
async def test_what_was_not_answered_in_whole_may_be_asked_again(
    script: list[ScriptStep],
) -> None:
    desk = Desk(MemoryTurns(), ScriptedProvider(*script, then=[an_answer("hi")]))
    answer = answering(desk)
    assert isinstance(await result(await answer(a_call(**KEYED))), Broken)
    again = await answer(a_call(**KEYED))
    assert isinstance(again, RunningTurn)
    assert isinstance(await result(again), Answered)


async def test_a_key_whose_answer_is_lost_is_not_used_twice() -> None:
    desk = a_desk(*an_answer("hi"))
    answer = answering(desk)
    await result(await answer(a_call(**KEYED)))
    (id_,) = desk.turns.settled
    desk.turns.settled[id_] = replace(desk.turns.settled[id_], stored_answer=None)
    with pytest.raises(AnswerNotKept):
        await answer(a_call(**KEYED))


async def test_a_withdrawn_key_ends_the_calls_that_run_on_it() -> None:
    desk = a_desk(Began("x", "m"), Text("half"), asyncio.Event())
    asked = await answering(desk)(a_call())
    assert isinstance(asked, RunningTurn)
    while len(asked.events) < 2:
        await asyncio.sleep(0)
    drop = DropKey(desk.running)
    assert await drop(Revocation(grace, "openai", NOON + timedelta(seconds=1))) == 0
    assert await drop(Revocation(ada, "openai", NOON + timedelta(seconds=1))) == 1
    await asked.result()
    assert desk.outcome is Outcome.STOPPED


async def test_an_organisations_withdrawn_key_ends_calls_of_a_seat_newer_than_the_token() -> None:
    firm = uuid4()
    desk = a_desk(Began("x", "m"), Text("half"), asyncio.Event())
    # By their token they have no seat; keyvault had heard of one since.
    by = OnBehalfOf(ada, "request-1", "token", UUID(int=9), organisation_id=firm)
    asked = await answering(desk)(a_call(by=by))
    assert isinstance(asked, RunningTurn)
    while len(asked.events) < 2:
        await asyncio.sleep(0)
    drop = DropKey(desk.running)
    assert await drop(Revocation(UserId(uuid4()), "openai", NOON)) == 0
    assert await drop(Revocation(UserId(firm), "openai", NOON)) == 1
    await asked.result()
    assert desk.outcome is Outcome.STOPPED


async def test_a_limit_is_told_before_the_vendor_is_asked() -> None:
    desk = Desk(
        MemoryTurns(), ScriptedProvider(*an_answer("hi")), admission=MemoryAdmission(places=0)
    )
    with pytest.raises(LimitReached):
        await answering(desk)(a_call())
    assert isinstance(desk.provider, ScriptedProvider)
    assert desk.provider.prompts == []


async def test_another_provider_may_answer_if_the_user_wants_it() -> None:
    other = ScriptedProvider(*an_answer("hello"), name="gemini")
    refusal = VendorRateLimited("No.", provider="openai", again=False)
    desk = Desk(
        MemoryTurns(),
        ScriptedProvider(refusal),
        others={"gemini": other},
        work=falling_back("gemini"),
    )
    last = await result(await answering(desk)(a_call()))
    assert isinstance(last, Answered)
    assert (last.fallback_from, last.message.provider) == ("openai", "gemini")
