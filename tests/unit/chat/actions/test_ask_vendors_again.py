"""Retries: what is tried again at the same vendor, how often, and after which wait."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.chat.domain.content import Role, Utterance
from services.chat.domain.errors import ModelUnavailable, PromptTooLong, VendorRejectedRequest
from services.chat.domain.frames import Began, Text
from services.chat.domain.turn import Outcome
from services.chat.domain.turn_events import Answered, Broken
from shared.clients.egress import KeyRefused, KeysWithheld, KeyUsedTooOften
from shared.errors import DependencyUnavailable, ExpectedFailure
from shared.vendors.failures import (
    NoUsableKey,
    VendorOverloaded,
    VendorPlanRequired,
    VendorQuotaExhausted,
    VendorRefused,
)
from tests.support.chat import (
    ScriptedProvider,
    an_answer,
)
from tests.support.chat_fallback import (
    CUT,
    HELLO,
    OVERLOADED,
    UNSENT,
    a_desk,
    attempts,
    last_event,
    limited,
)


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


async def test_the_other_provider_has_retries_of_its_own() -> None:
    desk = a_desk([OVERLOADED], wishes=True)
    trouble = VendorOverloaded("In trouble.", provider="gemini")
    other = ScriptedProvider(trouble, then=[[trouble], an_answer("Instead")], name="gemini")
    desk.others = {"gemini": other}
    assert isinstance(await last_event(desk), Answered)
    assert attempts(desk) == (3, 3)


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
