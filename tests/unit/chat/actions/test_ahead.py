"""The vendor's call begins while the hold is written, and goes on only once it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import pytest

from services.chat.domain.errors import ModelUnavailable, TurnRunning, VendorRejectedRequest
from services.chat.domain.frames import Frame
from services.chat.domain.ports import AnswerAhead, Asked
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Hold, Outcome, Prompt
from services.chat.domain.turn_events import Answered, Broken
from shared.errors import DependencyUnavailable
from shared.idempotency import RequestInProgress
from shared.identity import OnBehalfOf
from shared.revocation import Revocation, UsedKey
from shared.vendors.failures import NoUsableKey, VendorFailed, VendorOverloaded, VendorRefused
from tests.support.chat import (
    NOON,
    Desk,
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
    went_on: int = 0
    left: int = 0

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
        self.begun: list[Begun] = []
        self.refusal: VendorRefused | None = None

    def ahead(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AnswerAhead | None:
        if self.refusal is not None:
            raise self.refusal
        self.begun.append(Begun(self.script, by))
        return self.begun[-1]


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
