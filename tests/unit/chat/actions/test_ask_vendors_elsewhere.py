"""Fallback: who answers in a vendor's place, and whom nobody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.chat.actions.take_turn import Replayed
from services.chat.domain.capabilities import Capabilities
from services.chat.domain.content import ImagePart, Tool
from services.chat.domain.errors import ModelUnavailable, VendorRejectedRequest
from services.chat.domain.frames import Began, Ended, Text, Thinking
from services.chat.domain.known_key import KnownKey
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Outcome
from services.chat.domain.turn_events import Answered, Broken, FellBack
from shared.clients.egress import KeyRefused, KeysWithheld, KeyUsedTooOften
from shared.errors import DependencyUnavailable, ExpectedFailure
from shared.identity import OnBehalfOf
from shared.revocation import Revocation
from shared.tiers import TIERS, TierChanged
from shared.vendors.failures import (
    NoUsableKey,
    VendorOverloaded,
    VendorQuotaExhausted,
)
from tests.support.chat import (
    NOON,
    MemoryAdmission,
    MemoryKnownKeys,
    MemoryPreferences,
    MemoryWork,
    ScriptedProvider,
    ScriptStep,
    a_question,
    ada,
    an_answer,
    falling_back,
)
from tests.support.chat_fallback import (
    CUT,
    HELLO,
    OVERLOADED,
    SESSION,
    UNSENT,
    a_desk,
    attempts,
    last_event,
)

OVERLOADED_THERE = VendorOverloaded("In trouble.", provider="gemini")


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
