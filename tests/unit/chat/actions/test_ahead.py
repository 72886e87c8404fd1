"""The vendor's call begins while the hold is written, and goes on only once it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import pytest

from services.chat.domain.errors import ModelUnavailable, TurnRunning, VendorRejectedRequest
from services.chat.domain.frames import Frame
from services.chat.domain.ports import AdmissionRequest, AnswerAhead, Asked
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Hold, Outcome, Prompt
from services.chat.domain.turn_events import Answered, Broken
from shared.errors import DependencyUnavailable, LimitReached
from shared.idempotency import RequestInProgress
from shared.identity import OnBehalfOf
from shared.revocation import Revocation, UsedKey
from shared.vendors.failures import NoUsableKey, VendorFailed, VendorOverloaded, VendorRefused
from tests.support.chat import (
    NOON,
    Desk,
    MemoryAdmission,
    MemoryReservation,
    MemoryTurns,
    ScriptedProvider,
    ScriptStep,
    a_question,
    a_session,
    ada,
    an_answer,
)

SESSION = a_session()
FIRM = UUID(int=70)


@dataclass
class Begun:
    """A call that went ahead."""

    script: list[ScriptStep]
    by: OnBehalfOf
    others: list[Begun]
    may_go: bool = True
    went_on: int = 0
    left: int = 0

    def go(self) -> bool:
        if self.may_go:
            self.others.append(self)
        return self.may_go

    async def frames(self) -> AsyncIterator[Frame]:
        self.went_on += 1
        async for frame in ScriptedProvider(*self.script).answer(
            None,  # type: ignore[arg-type]
            by=self.by,
            stream=False,
        ):
            yield frame

    def leave(self) -> None:
        self.left += not self.went_on


class Eager(ScriptedProvider):
    """Lets its first call go ahead, with a script of its own."""

    def __init__(self, *ahead: ScriptStep, then: list[ScriptStep]) -> None:
        super().__init__(*then)
        self.script = list(ahead)
        self.ready: list[Begun] = []
        self.begun: list[Begun] = []
        self.may_go = True
        self.refusal: VendorRefused | None = None

    def ahead(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AnswerAhead | None:
        if self.refusal is not None:
            raise self.refusal
        self.ready.append(Begun(self.script, by, self.begun, self.may_go))
        return self.ready[-1]


class Asking(MemoryAdmission):
    """Something happens while the place in the limits is asked for."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def admit(
        self, request: AdmissionRequest, *, spent: Callable[[], Awaitable[int]]
    ) -> MemoryReservation:
        if self.meanwhile is not None:
            await self.meanwhile()
        return await super().admit(request, spent=spent)


class Holding(MemoryTurns):
    """Something happens while the hold is written."""

    meanwhile: Callable[[Hold], Awaitable[bool]] | None = None

    async def hold(self, hold: Hold, question: Asked | None, *, sandbox: bool) -> bool:
        if self.meanwhile is not None and not await self.meanwhile(hold):
            return False
        return await super().hold(hold, question, sandbox=sandbox)


def a_desk(provider: Eager) -> tuple[Desk, Holding]:
    turns = Holding(SESSION)
    return Desk(turns, provider), turns


def an_eager(*ahead: ScriptStep) -> Eager:
    return Eager(*(ahead or an_answer("Ahead")), then=[*an_answer("Later")])


async def taken(desk: Desk) -> Answered | Broken:
    turn = await desk.take_turn(a_question(SESSION))
    assert isinstance(turn, RunningTurn)
    return await asyncio.wait_for(turn.result(), 5)


def text_of(result: Answered | Broken) -> str:
    assert isinstance(result, Answered)
    return result.message.content


async def test_it_begins_before_the_hold_and_goes_on_after_it() -> None:
    provider = an_eager()
    desk, turns = a_desk(provider)
    seen: list[tuple[int, int]] = []

    async def look(_hold: Hold) -> bool:
        seen.append((len(provider.begun), provider.begun[0].went_on))
        return True

    turns.meanwhile = look
    assert text_of(await taken(desk)) == "Ahead"
    assert seen == [(1, 0)]
    (begun,) = provider.begun
    assert (begun.went_on, begun.left, len(provider.prompts)) == (1, 0, 0)
    assert desk.outcome is Outcome.DONE


@pytest.mark.parametrize("failure", [TurnRunning(SESSION.id), DependencyUnavailable("database")])
async def test_a_hold_that_fails_breaks_it_off(failure: Exception) -> None:
    provider = an_eager()
    desk, turns = a_desk(provider)

    async def fail(_hold: Hold) -> bool:
        raise failure

    turns.meanwhile = fail
    with pytest.raises(type(failure)):
        await desk.take_turn(a_question(SESSION))
    assert [(begun.went_on, begun.left) for begun in provider.begun] == [(0, 1)]
    assert [place.refunds for place in desk.admission.reservations] == [1]


async def test_another_request_with_its_key_breaks_it_off() -> None:
    provider = an_eager()
    desk, turns = a_desk(provider)

    async def lose(_hold: Hold) -> bool:
        return False

    turns.meanwhile = lose
    with pytest.raises(RequestInProgress):
        await desk.take_turn(a_question(SESSION))
    assert [(begun.went_on, begun.left) for begun in provider.begun] == [(0, 1)]


async def test_a_client_that_goes_while_the_hold_is_written_breaks_it_off() -> None:
    provider = an_eager()
    desk, turns = a_desk(provider)
    written = asyncio.Event()

    async def hang(_hold: Hold) -> bool:
        written.set()
        await asyncio.Event().wait()
        return True

    turns.meanwhile = hang
    asking = asyncio.create_task(desk.take_turn(a_question(SESSION)))
    await asyncio.wait_for(written.wait(), 5)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [(begun.went_on, begun.left) for begun in provider.begun] == [(0, 1)]


async def test_a_key_that_is_withdrawn_meanwhile_has_keyvault_asked_again() -> None:
    provider = an_eager()
    desk, turns = a_desk(provider)

    async def withdraw(_hold: Hold) -> bool:
        desk.running.end_on_key(Revocation(ada, "openai", NOON, 1), Outcome.STOPPED)
        return True

    turns.meanwhile = withdraw
    assert text_of(await taken(desk)) == "Later"
    assert [(begun.went_on, begun.left) for begun in provider.begun] == [(0, 1)]
    assert len(provider.prompts) == 1


async def test_a_turn_that_is_ended_before_its_first_step_breaks_it_off() -> None:
    provider = an_eager()
    desk, _ = a_desk(provider)
    turn = await desk.take_turn(a_question(SESSION))
    assert isinstance(turn, RunningTurn)
    turn.end(Outcome.STOPPED)
    await asyncio.wait_for(turn.result(), 5)
    assert [(begun.went_on, begun.left) for begun in provider.begun] == [(0, 1)]
    assert desk.only_settlement.usage.total_tokens == 0


async def test_keyvaults_no_gives_the_place_back_while_the_hold_stands() -> None:
    provider = an_eager(NoUsableKey("None.", reason="key_not_found"))
    desk, turns = a_desk(provider)
    result = await taken(desk)
    assert isinstance(result, Broken)
    assert isinstance(result.failure, NoUsableKey)
    assert desk.outcome is Outcome.REFUSED
    assert [place.refunds for place in desk.admission.reservations] == [1]
    assert turns.facts == []


async def test_what_failed_is_tried_again_in_the_usual_way() -> None:
    provider = an_eager(VendorOverloaded("Busy.", provider="openai"))
    desk, turns = a_desk(provider)
    assert text_of(await taken(desk)) == "Later"
    assert (provider.begun[0].went_on, len(provider.begun), len(provider.prompts)) == (1, 1, 1)
    assert len(turns.facts) == 1


async def test_a_call_that_was_cut_after_its_body_is_billed_as_ever() -> None:
    provider = an_eager(VendorFailed("openai"))
    desk, turns = a_desk(provider)
    assert isinstance(await taken(desk), Broken)
    assert desk.outcome is Outcome.PROVIDER_FAILED
    assert len(turns.facts) == 1


async def test_where_something_failed_lately_it_does_not_begin_before() -> None:
    provider = an_eager()
    desk, _ = a_desk(provider)
    failure = VendorFailed("openai")
    desk.breakers.failed(("openai", ada), failure, is_probe=False)
    assert text_of(await taken(desk)) == "Later"
    assert provider.begun == []
    # The answer is a sign of life.
    provider.scripts = [[*an_answer("Once more")]]
    assert desk.breakers.is_calm(("openai", ada))


async def test_a_breaker_that_opens_meanwhile_breaks_it_off() -> None:
    provider = an_eager()
    desk, turns = a_desk(provider)

    async def fail_often(_hold: Hold) -> bool:
        for _ in range(5):
            desk.breakers.failed(("openai", ada), VendorFailed("openai"), is_probe=False)
        return True

    turns.meanwhile = fail_often
    result = await taken(desk)
    assert isinstance(result, Broken)
    assert isinstance(result.failure, VendorOverloaded)
    assert [(begun.went_on, begun.left) for begun in provider.begun] == [(0, 1)]
    assert (provider.prompts, turns.facts) == ([], [])
    assert [place.refunds for place in desk.admission.reservations] == [1]


async def test_a_session_that_is_busy_here_asks_for_no_key() -> None:
    until = asyncio.Event()
    provider = an_eager(until, *an_answer("Ahead"))
    desk, turns = a_desk(provider)
    turn = await desk.take_turn(a_question(SESSION))
    assert isinstance(turn, RunningTurn)

    async def refuse(_hold: Hold) -> bool:
        raise TurnRunning(SESSION.id)

    turns.meanwhile = refuse
    with pytest.raises(TurnRunning):
        await desk.take_turn(a_question(SESSION))
    assert len(provider.begun) == 1
    until.set()
    await asyncio.wait_for(turn.result(), 5)
    turns.meanwhile = None
    assert text_of(await taken(desk)) == "Ahead"
    assert len(provider.begun) == 2


@pytest.mark.parametrize("refusal", [VendorRejectedRequest, ModelUnavailable])
async def test_what_a_vendor_would_not_take_is_told_by_its_turn(
    refusal: type[VendorRefused],
) -> None:
    provider = an_eager()
    provider.refusal = refusal("No.", provider="openai", again=False)
    desk, _ = a_desk(provider)
    assert text_of(await taken(desk)) == "Later"
    assert provider.begun == []


async def test_whose_key_served_is_known_of_a_call_that_went_ahead() -> None:
    provider = an_eager()
    desk, turns = a_desk(provider)

    async def answered(_hold: Hold) -> bool:
        provider.begun[0].by.key.answered("openai", UsedKey(FIRM, "openai", 1).told)
        return True

    turns.meanwhile = answered
    await taken(desk)
    assert [fact.event.key_organisation_id for fact in turns.facts] == [FIRM]


def a_desk_that_asks(provider: Eager) -> tuple[Desk, Asking]:
    admission = Asking()
    return Desk(Holding(SESSION), provider, admission=admission), admission


async def turns_of_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_it_is_made_ready_while_its_place_is_asked_for_and_begins_after() -> None:
    provider = an_eager()
    desk, admission = a_desk_that_asks(provider)
    seen: list[tuple[int, int]] = []

    async def look() -> None:
        seen.append((len(provider.ready), len(provider.begun)))
        await turns_of_the_loop()
        seen.append((len(provider.ready), len(provider.begun)))

    admission.meanwhile = look
    assert text_of(await taken(desk)) == "Ahead"
    assert seen == [(0, 0), (1, 0)]


async def test_nothing_begins_for_whom_is_refused_and_nothing_is_made_ready_for_it_later() -> None:
    provider = an_eager()
    desk, admission = a_desk_that_asks(provider)
    admission.full = ("openai",)
    with pytest.raises(LimitReached):
        await desk.take_turn(a_question(SESSION))
    await turns_of_the_loop()
    assert (provider.ready, provider.begun) == ([], [])


async def test_nothing_begins_for_who_leaves_while_their_place_is_asked_for() -> None:
    provider = an_eager()
    desk, admission = a_desk_that_asks(provider)
    asked = asyncio.Event()

    async def hang() -> None:
        await turns_of_the_loop()
        asked.set()
        await asyncio.Event().wait()

    admission.meanwhile = hang
    asking = asyncio.create_task(desk.take_turn(a_question(SESSION)))
    await asyncio.wait_for(asked.wait(), 5)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (len(provider.ready), provider.begun) == (1, [])


async def test_a_call_that_can_go_no_more_is_made_after_the_hold() -> None:
    provider = an_eager()
    provider.may_go = False
    desk, _ = a_desk(provider)
    assert text_of(await taken(desk)) == "Later"
    assert [(ready.went_on, ready.left) for ready in provider.ready] == [(0, 0)]


async def test_a_breaker_that_hears_of_a_failure_meanwhile_asks_for_no_key() -> None:
    provider = an_eager()
    desk, admission = a_desk_that_asks(provider)

    async def fail() -> None:
        await turns_of_the_loop()
        desk.breakers.failed(("openai", ada), VendorFailed("openai"), is_probe=False)

    admission.meanwhile = fail
    assert text_of(await taken(desk)) == "Later"
    assert (len(provider.ready), provider.begun) == (1, [])


async def test_a_key_that_is_withdrawn_before_it_is_asked_for_breaks_nothing_off() -> None:
    provider = an_eager()
    desk, admission = a_desk_that_asks(provider)

    async def withdraw() -> None:
        await turns_of_the_loop()
        desk.running.end_on_key(Revocation(ada, "openai", NOON, 1), Outcome.STOPPED)

    admission.meanwhile = withdraw
    assert text_of(await taken(desk)) == "Ahead"
    assert [(begun.went_on, begun.left) for begun in provider.begun] == [(1, 0)]


async def test_a_bug_in_making_it_ready_leaves_no_place_behind() -> None:
    class Broken(Eager):
        def ahead(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AnswerAhead | None:
            raise RuntimeError("a bug")

    desk, admission = a_desk_that_asks(Broken(then=[]))
    with pytest.raises(RuntimeError):
        await desk.take_turn(a_question(SESSION))
    assert [place.refunds for place in admission.reservations] == [1]
    assert desk.turns.settled == {}


async def test_a_session_that_has_become_busy_meanwhile_asks_for_no_key() -> None:
    until = asyncio.Event()
    provider = an_eager(until, *an_answer("Ahead"))
    desk, admission = a_desk_that_asks(provider)
    others: list[RunningTurn] = []

    async def be_overtaken() -> None:
        admission.meanwhile = None
        await turns_of_the_loop()
        turn = await desk.take_turn(a_question(SESSION))
        assert isinstance(turn, RunningTurn)
        others.append(turn)

    admission.meanwhile = be_overtaken
    with pytest.raises(TurnRunning):
        await desk.take_turn(a_question(SESSION))
    assert (len(provider.ready), len(provider.begun)) == (2, 1)
    until.set()
    await asyncio.wait_for(others[0].result(), 5)
