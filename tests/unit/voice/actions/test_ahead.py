"""The vendor's call begins while the hold is written, and goes on only once it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from services.voice.domain.errors import FormatNotInVendorPlan, VoiceNotFound
from services.voice.domain.ports import Audio, SpeechAhead, TimedAudio
from services.voice.domain.script import Script
from services.voice.domain.speech import Hold, Outcome
from services.voice.domain.voice import VoiceId
from shared.errors import DependencyUnavailable
from shared.idempotency import RequestInProgress
from shared.identity import OnBehalfOf
from shared.revocation import Revocation, UsedKey
from shared.vendors.failures import NoUsableKey, VendorFailed
from tests.support.kept_speech import FakeEngine, spoken_before
from tests.support.voice import (
    NOON,
    FakeAudio,
    FakeProvider,
    FakeSpeeches,
    Studio,
    a_wish,
    an_order,
    on_behalf_of,
)

FIRM = UUID(int=70)


@dataclass
class Begun:
    """A call that went ahead."""

    script: Script
    by: OnBehalfOf
    failure: Exception | None = None
    went_on: int = 0
    left: int = 0

    @asynccontextmanager
    async def _audio(self) -> AsyncIterator[Audio | TimedAudio]:
        self.went_on += 1
        if self.failure is not None:
            raise self.failure
        yield FakeAudio(b"ahead")

    def speak(self) -> AbstractAsyncContextManager[Audio | TimedAudio]:
        return self._audio()

    def leave(self) -> None:
        self.left += not self.went_on


@dataclass
class Eager(FakeProvider):
    """Lets calls go ahead."""

    begun: list[Begun] = field(default_factory=list)
    fails_with: Exception | None = None

    def ahead(self, script: Script, *, by: OnBehalfOf) -> SpeechAhead | None:
        self.begun.append(Begun(script, by, self.fails_with))
        return self.begun[-1]


@dataclass
class Holding(FakeSpeeches):
    """Something happens while the hold is written."""

    meanwhile: Callable[[Hold], Awaitable[bool]] | None = None

    async def hold(self, hold: Hold) -> bool:
        if self.meanwhile is not None and not await self.meanwhile(hold):
            return False
        return await super().hold(hold)


def a_studio() -> tuple[Studio, Eager, Holding]:
    provider, speeches = Eager(), Holding()
    return Studio(provider=provider, speeches=speeches), provider, speeches


async def test_it_begins_before_the_hold_and_goes_on_after_it() -> None:
    studio, provider, speeches = a_studio()
    seen: list[tuple[int, int]] = []

    async def look(_hold: Hold) -> bool:
        seen.append((len(provider.begun), provider.begun[0].went_on))
        return True

    speeches.meanwhile = look
    assert await studio.hear(await studio.speak(a_wish())) == (b"ahead", "done")
    assert seen == [(1, 0)]
    (begun,) = provider.begun
    assert (begun.went_on, begun.left, provider.scripts) == (1, 0, [])


@pytest.mark.parametrize("how", ["failing", "another first"])
async def test_a_hold_that_fails_breaks_it_off(how: str) -> None:
    studio, provider, speeches = a_studio()

    async def fail(_hold: Hold) -> bool:
        if how == "failing":
            raise DependencyUnavailable("database")
        return False

    speeches.meanwhile = fail
    with pytest.raises(DependencyUnavailable if how == "failing" else RequestInProgress):
        await studio.speak(a_wish())
    assert [(begun.went_on, begun.left) for begun in provider.begun] == [(0, 1)]
    assert provider.scripts == []


async def test_a_client_that_goes_while_the_hold_is_written_breaks_it_off() -> None:
    studio, provider, speeches = a_studio()
    written = asyncio.Event()

    async def hang(_hold: Hold) -> bool:
        written.set()
        await asyncio.Event().wait()
        return True

    speeches.meanwhile = hang
    asking = asyncio.create_task(studio.speak(a_wish()))
    await asyncio.wait_for(written.wait(), 5)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [(begun.went_on, begun.left) for begun in provider.begun] == [(0, 1)]


async def test_a_key_that_is_withdrawn_meanwhile_has_keyvault_asked_again() -> None:
    studio, provider, speeches = a_studio()

    async def withdraw(hold: Hold) -> bool:
        revocation = Revocation(hold.user_id, "elevenlabs", NOON, 1)
        studio.running.end_on_key(revocation, Outcome.STOPPED)
        return True

    speeches.meanwhile = withdraw
    assert await studio.hear(await studio.speak(a_wish())) == (b"onetwo", "done")
    assert [(begun.went_on, begun.left) for begun in provider.begun] == [(0, 1)]
    assert len(provider.scripts) == 1


@pytest.mark.parametrize(
    "failure", [NoUsableKey("None.", reason="key_not_found"), VendorFailed("elevenlabs")]
)
async def test_a_call_that_comes_to_nothing_is_settled_as_ever(failure: Exception) -> None:
    studio, provider, speeches = a_studio()
    provider.fails_with = failure
    with pytest.raises(type(failure)):
        await studio.speak(a_wish())
    await studio.settled()
    assert [(begun.went_on, begun.left) for begun in provider.begun] == [(1, 0)]
    assert len(speeches.settlements) == 1
    assert speeches.outbox == []


async def test_of_a_long_speech_the_first_part_goes_ahead() -> None:
    studio, provider, _ = a_studio()
    order = an_order("One sentence is said. " * 300)
    heard, outcome = await studio.hear(await studio.speak(a_wish(order, tier="enterprise")))
    assert (heard, outcome) == (b"aheadonetwo", "done")
    (begun,), (second,) = provider.begun, provider.scripts
    assert order.text.startswith(begun.script.text)
    assert order.text.strip().endswith(second.text.strip())


async def test_whose_key_served_is_known_of_a_call_that_went_ahead() -> None:
    studio, provider, speeches = a_studio()

    async def answered(_hold: Hold) -> bool:
        told = UsedKey(FIRM, "elevenlabs", 1).told
        provider.begun[0].by.key.answered("elevenlabs", told)
        return True

    speeches.meanwhile = answered
    await studio.hear(await studio.speak(a_wish(by=on_behalf_of())))
    assert [fact.event.key_organisation_id for fact in speeches.outbox] == [FIRM]


async def test_a_format_that_the_plan_does_not_make_is_asked_for_in_another_one() -> None:
    studio, provider, _ = a_studio()
    provider.fails_with = FormatNotInVendorPlan("elevenlabs")
    order = an_order(format="mp3_44100_192")
    assert await studio.hear(await studio.speak(a_wish(order, tier="pro"))) == (b"onetwo", "done")
    (begun,), (again,) = provider.begun, provider.scripts
    assert (begun.went_on, begun.left) == (1, 0)
    assert begun.script.format.name == "mp3_44100_192" != again.format.name


async def test_what_was_said_before_asks_for_no_key() -> None:
    studio, provider, _ = a_studio()
    studio.before, by = spoken_before(studio.clock), on_behalf_of()
    assert await studio.hear(await studio.speak(a_wish(by=by))) == (b"ahead", "done")
    assert await studio.hear(await studio.speak(a_wish(by=by))) == (b"ahead", "done")
    assert len(provider.begun) == 1


async def test_nor_does_the_engine_that_needs_none() -> None:
    studio, provider, _ = a_studio()
    studio.offline = FakeEngine()
    _, outcome = await studio.hear(await studio.speak(a_wish(an_order(voice_id="espeak-de"))))
    assert outcome == "done"
    assert provider.begun == []


async def test_nor_one_whose_voice_is_not_there() -> None:
    studio, provider, _ = a_studio()
    with pytest.raises(VoiceNotFound):
        await studio.speak(a_wish(an_order(voice_id=VoiceId("21m00Tcm4TlvDq8ikWAN"))))
    assert provider.begun == []


async def test_a_speech_with_times_goes_ahead_too() -> None:
    studio, provider, _ = a_studio()
    speech = await studio.speak(a_wish(an_order(with_timestamps=True)))
    (begun,) = provider.begun
    assert (begun.script.is_timed, begun.went_on) == (True, 1)
    await studio.hear(speech)
