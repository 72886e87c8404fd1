"""What taking a turn promises: one terminal record, whatever happens."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from services.chat.actions.drop_sign_in import DropSignIn
from services.chat.actions.take_turn import Replayed
from services.chat.domain.content import Role, Utterance
from services.chat.domain.conversation import ChatSession
from services.chat.domain.devices import Devices
from services.chat.domain.errors import (
    BranchMoved,
    ModelNotInTier,
    ProviderNotInTier,
    SessionNotFound,
    UnknownProvider,
)
from services.chat.domain.frames import Began, Text
from services.chat.domain.ports import Asked
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Hold, Outcome
from services.chat.domain.turn_events import Answered, Broken, Delta
from services.chat.domain.usage import Usage
from shared.errors import DependencyUnavailable, LimitReached, SessionEnded
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.tiers import NO_TIER, TIERS
from shared.vendors.failures import VendorFailed, VendorRateLimited
from tests.support.chat import (
    Desk,
    MemoryAdmission,
    MemoryTurns,
    ScriptedProvider,
    a_question,
    a_session,
    ada,
    an_answer,
    grace,
)


class NoChannel:
    """Nobody is connected."""


async def ended(turn: RunningTurn | Replayed) -> Answered | Broken:
    assert isinstance(turn, RunningTurn)
    return await asyncio.wait_for(turn.result(), 5)


async def test_an_answer_is_stored_priced_and_told_to_billing_once() -> None:
    session = a_session()
    usage = Usage(input_tokens=12, output_tokens=2)
    desk = Desk(MemoryTurns(session), ScriptedProvider(*an_answer("Hello", " you", usage=usage)))

    result = await ended(await desk.take_turn(a_question(session)))

    assert isinstance(result, Answered)
    assert (result.message.content, result.message.cost_microusd) == ("Hello you", 7)
    (fact,) = desk.turns.facts
    assert (fact.event.input_tokens, fact.event.output_tokens) == (12, 2)
    assert (fact.event.source, fact.event.outcome) == ("provider", "done")
    (hold,) = desk.turns.holds.values()
    assert fact.id == hold.usage_event_id
    assert fact.event.provider_request_id == "chatcmpl-1"


async def test_the_hold_is_written_before_the_vendor_is_asked() -> None:
    session, gate = a_session(), asyncio.Event()
    provider = ScriptedProvider(gate, *an_answer("x"))
    desk = Desk(MemoryTurns(session), provider)

    turn = await desk.take_turn(a_question(session))

    assert len(desk.turns.holds) == 1
    assert desk.turns.settled == {}
    gate.set()
    await ended(turn)
    assert len(desk.turns.settled) == 1


async def test_the_vendor_sees_system_prompt_history_and_question() -> None:
    session = a_session(system_prompt="Be brief.")
    provider = ScriptedProvider(*an_answer("x"))
    desk = Desk(MemoryTurns(session), provider)
    desk.turns.history = [Utterance(Role.USER, "before"), Utterance(Role.ASSISTANT, "said")]

    await ended(await desk.take_turn(a_question(session, "now")))

    (prompt,) = provider.prompts
    assert prompt.system_prompt == "Be brief."
    assert [u.content for u in prompt.utterances] == ["before", "said", "now"]
    assert prompt.choice.max_output_tokens == 1_000
    assert str(ada) not in prompt.end_user


async def test_another_users_session_looks_absent_and_costs_no_place() -> None:
    session = a_session(owner=grace)
    desk = Desk(MemoryTurns(session), ScriptedProvider())
    question = a_question(a_session(), session_id=session.id)

    with pytest.raises(SessionNotFound):
        await desk.take_turn(question)

    assert desk.admission.reservations == []


@pytest.mark.parametrize(
    ("parts", "failure"),
    [
        ({"provider": "gemini"}, ProviderNotInTier),
        ({"provider": "nobody"}, UnknownProvider),
        ({"model": "gpt-4"}, ModelNotInTier),
    ],
)
async def test_what_the_tier_lacks_is_refused_before_admission(
    parts: dict[str, str], failure: type[Exception]
) -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider())

    with pytest.raises(failure):
        await desk.take_turn(a_question(session, **parts))

    assert desk.admission.reservations == []
    assert desk.turns.holds == {}


async def test_a_larger_tier_gets_its_own_model_and_length() -> None:
    session = a_session(provider="anthropic")
    provider = ScriptedProvider(*an_answer("x"))
    desk = Desk(MemoryTurns(session), provider)

    await ended(await desk.take_turn(a_question(session, tier=TIERS["enterprise"])))

    (prompt,) = provider.prompts
    assert prompt.choice.model == "claude-opus-5-5"
    assert prompt.choice.max_output_tokens == 8_000


async def test_a_full_window_leaves_no_hold() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(), MemoryAdmission(places=0))

    with pytest.raises(LimitReached):
        await desk.take_turn(a_question(session))

    assert desk.turns.holds == {}


async def test_a_refusal_of_the_vendor_is_free_and_refunded() -> None:
    session = a_session()
    refusal = VendorRateLimited("Slow down.", provider="openai")
    desk = Desk(MemoryTurns(session), ScriptedProvider(refusal))

    result = await ended(await desk.take_turn(a_question(session)))

    assert isinstance(result, Broken)
    assert (result.failure, result.message) == (refusal, None)
    assert desk.outcome is Outcome.REFUSED
    assert desk.turns.facts == []
    assert desk.admission.reservations[0].refunds == 1


async def test_a_cut_answer_is_kept_counted_and_billed_as_an_estimate() -> None:
    session = a_session()
    script = (Began("chatcmpl-9", None), Text("Hello wor"), VendorFailed("openai"))
    desk = Desk(MemoryTurns(session), ScriptedProvider(*script))

    result = await ended(await desk.take_turn(a_question(session)))

    assert isinstance(result, Broken)
    assert result.message is not None
    assert result.message.content == "Hello wor"
    assert desk.outcome is Outcome.PROVIDER_FAILED
    (fact,) = desk.turns.facts
    assert fact.event.source == "estimated"
    assert fact.event.output_tokens == 3
    (reservation,) = desk.admission.reservations
    assert (reservation.refunds, len(reservation.settled)) == (0, 1)


async def test_an_answer_that_never_ends_properly_is_a_failure() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(Began("c", None), Text("Hel")))

    result = await ended(await desk.take_turn(a_question(session)))

    assert isinstance(result, Broken)
    assert isinstance(result.failure, VendorFailed)


async def test_a_vendor_that_never_heard_us_is_not_billed() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(VendorFailed("openai", billed=False)))

    await ended(await desk.take_turn(a_question(session)))

    assert desk.outcome is Outcome.REFUSED
    assert desk.turns.facts == []


async def test_a_bug_in_reading_is_settled_too() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(Began("c", None), ZeroDivisionError()))

    result = await ended(await desk.take_turn(a_question(session)))

    assert isinstance(result, Broken)
    assert desk.outcome is Outcome.PROVIDER_FAILED
    assert len(desk.turns.facts) == 1


@pytest.mark.parametrize("outcome", [Outcome.CLIENT_GONE, Outcome.STOPPED])
async def test_an_ended_turn_stops_the_vendor_and_bills_what_was_written(outcome: Outcome) -> None:
    session, never = a_session(), asyncio.Event()
    provider = ScriptedProvider(Began("c", None), Text("Hello"), never)
    desk = Desk(MemoryTurns(session), provider)
    turn = await desk.take_turn(a_question(session))
    assert isinstance(turn, RunningTurn)
    async for event in turn.follow(after=1):
        assert event == Delta("Hello")
        break

    turn.end(outcome)
    result = await ended(turn)

    assert isinstance(result, Answered)
    assert provider.closed == 1
    assert desk.outcome is outcome
    (fact,) = desk.turns.facts
    assert (fact.event.outcome, fact.event.source) == (outcome.value, "estimated")
    assert desk.admission.reservations[0].refunds == 0


async def test_a_turn_that_is_ended_before_its_reader_starts_is_settled() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(asyncio.Event()))
    turn = await desk.take_turn(a_question(session))
    assert isinstance(turn, RunningTurn)

    turn.end(Outcome.CLIENT_GONE)
    await ended(turn)

    assert desk.outcome is Outcome.CLIENT_GONE


async def test_a_database_that_is_away_for_a_moment_loses_no_settlement() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(*an_answer("x")))
    desk.turns.failing = 3

    result = await ended(await desk.take_turn(a_question(session)))

    assert isinstance(result, Answered)
    assert len(desk.turns.facts) == 1


async def test_a_client_need_not_wait_for_a_database_that_stays_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.chat.actions.run_turn._SETTLE_PATIENCE_SECONDS", 0.05)
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(*an_answer("x")))
    desk.turns.failing = 2
    turn = await desk.take_turn(a_question(session))
    assert isinstance(turn, RunningTurn)

    result = await ended(turn)

    assert isinstance(result, Broken)
    assert isinstance(result.failure, DependencyUnavailable)
    await asyncio.wait_for(desk.running.drained(5), 5)
    assert len(desk.turns.facts) == 1


async def test_the_same_key_and_request_replays_the_answer_and_charges_nothing() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(*an_answer("once")))
    question = a_question(session, idempotency_key="k1")
    await ended(await desk.take_turn(question))

    again = await desk.take_turn(question)

    assert isinstance(again, Replayed)
    assert again.message.content == "once"
    assert len(desk.turns.facts) == 1
    assert len(desk.admission.reservations) == 1


async def test_the_same_key_with_another_request_is_refused() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(*an_answer("once")))
    await ended(await desk.take_turn(a_question(session, idempotency_key="k1")))

    with pytest.raises(IdempotencyKeyReused):
        await desk.take_turn(a_question(session, "other", idempotency_key="k1"))


async def test_many_requests_with_one_key_ask_the_vendor_once() -> None:
    session, gate = a_session(), asyncio.Event()
    provider = ScriptedProvider(gate, *an_answer("once"))
    desk = Desk(MemoryTurns(session), provider)
    question = a_question(session, idempotency_key="k1")

    asked = await asyncio.gather(
        *(desk.take_turn(question) for _ in range(20)), return_exceptions=True
    )
    gate.set()
    turns = [a for a in asked if isinstance(a, RunningTurn)]
    await ended(turns[0])

    assert len(turns) == len(provider.prompts) == 1
    assert sum(isinstance(a, RequestInProgress) for a in asked) == 19
    kept = [r for r in desk.admission.reservations if not r.refunds]
    assert len(kept) == 1


async def test_draining_ends_turns_that_outlast_it() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(Began("c", None), asyncio.Event()))
    await desk.take_turn(a_question(session))

    await desk.running.drained(0.01)

    assert desk.outcome is Outcome.STOPPED


async def test_a_tier_that_changed_a_moment_ago_counts_and_not_the_claim() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(*an_answer("x")))
    desk.admission.told = "pro"

    turn = await desk.take_turn(a_question(session, tier=TIERS["free"]))

    await ended(turn)
    (hold,) = desk.turns.holds.values()
    assert hold.tier == "pro"


async def test_what_the_claim_refuses_the_new_tier_may_allow() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(*an_answer("x")))
    large = a_question(session, tier=TIERS["free"], model="openai.large")
    with pytest.raises(ModelNotInTier):
        await desk.take_turn(large)
    desk.admission.told = "pro"
    await ended(await desk.take_turn(large))
    assert [hold.tier for hold in desk.turns.holds.values()] == ["pro"]


async def test_a_told_tier_that_is_not_known_here_has_what_the_default_has() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(*an_answer("x")))
    desk.admission.told = "team"
    await ended(await desk.take_turn(a_question(session, tier=TIERS["free"])))
    assert [hold.tier for hold in desk.turns.holds.values()] == ["free"]


async def test_an_account_that_is_gone_takes_no_turn() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(*an_answer("x")))
    desk.admission.told = NO_TIER
    with pytest.raises(SessionEnded):
        await desk.take_turn(a_question(session))
    assert desk.turns.holds == {}


async def test_a_turn_ends_with_the_sign_in_that_asked_for_it() -> None:
    session, gate = a_session(), asyncio.Event()
    desk = Desk(MemoryTurns(session), ScriptedProvider(Began("c-1", "m"), Text("so far"), gate))
    turn = await desk.take_turn(a_question(session))
    assert isinstance(turn, RunningTurn)
    [sign_in] = desk.running.sign_ins()
    await anext(turn.follow(after=1))
    drop = DropSignIn(desk.running, Devices(NoChannel()))  # type: ignore[arg-type]
    assert await drop(UUID(int=0)) == 0
    assert await drop(sign_in) == 1
    result = await ended(turn)
    assert isinstance(result, Answered)
    assert result.message.content == "so far"
    (settled,) = desk.turns.settled.values()
    assert settled.outcome is Outcome.STOPPED


class MovingTurns(MemoryTurns):
    """Its sessions are changed from elsewhere between a look at them and what is written."""

    def __init__(self, *sessions: ChatSession, times: int) -> None:
        super().__init__(*sessions)
        self.left = times

    async def hold(self, hold: Hold, question: Asked | None, *, sandbox: bool) -> bool:
        if self.left and hold.session_id is not None:
            self.left -= 1
            self.history.append(Utterance(Role.ASSISTANT, f"said meanwhile {self.left}"))
            raise BranchMoved(hold.session_id)
        return await super().hold(hold, question, sandbox=sandbox)


async def test_what_is_said_from_elsewhere_meanwhile_is_heard() -> None:
    session = a_session()
    provider = ScriptedProvider(*an_answer("Hello"))
    turns = MovingTurns(session, times=1)
    turns.history.append(Utterance(Role.USER, "before"))
    desk = Desk(turns, provider)

    await ended(await desk.take_turn(a_question(session)))

    [prompt] = provider.prompts
    assert [said.content for said in prompt.utterances][:2] == ["before", "said meanwhile 0"]
    # One place that is given back, and one that counts.
    assert [place.refunds for place in desk.admission.reservations] == [1, 0]
    assert desk.outcome is Outcome.DONE


async def test_what_moves_on_and_on_is_for_its_client_to_ask_again() -> None:
    session = a_session()
    desk = Desk(MovingTurns(session, times=2), ScriptedProvider(*an_answer("Hello")))
    with pytest.raises(BranchMoved):
        await desk.take_turn(a_question(session))
    assert [place.refunds for place in desk.admission.reservations] == [1, 1]
    assert desk.turns.holds == {}
