"""An utterance: text in bits, audio at the hearer's pace, one ending."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.voice.actions.live_utterance import LONGEST_UTTERANCE, Ending, LiveUtterance
from services.voice.domain.errors import SpeechEnded, TextNotSpeakable, TooMuchText
from services.voice.domain.gathered_text import Scheduled, WholeSentences
from services.voice.domain.piece import Piece
from services.voice.domain.speech import Outcome, Used
from shared.clients.egress import NoUsableKey
from shared.errors import ExpectedFailure, LimitReached
from shared.vendors.failures import VendorQuotaExhausted
from tests.support.voice import Studio, a_live_wish, cut


class Ear:
    """Hears; `open` lets it take the next piece."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.refusals: list[ExpectedFailure] = []
        self.endings: list[Ending] = []
        self.admissions = 0
        self.open = asyncio.Event()
        self.open.set()
        self.is_gone = False

    async def hear(self, piece: Piece) -> None:
        await self.open.wait()
        if self.is_gone:
            raise ConnectionResetError
        self.heard.append(piece.audio)

    def admitted(self) -> None:
        self.admissions += 1

    def refused(self, failure: ExpectedFailure) -> None:
        self.refusals.append(failure)

    def over(self, ending: Ending) -> None:
        self.endings.append(ending)


async def an_utterance(studio: Studio) -> LiveUtterance:
    return LiveUtterance(await studio.speak_live(a_live_wish()), WholeSentences())


async def until_idle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_sentences_are_said_while_the_rest_is_written() -> None:
    studio, ear = Studio(), Ear()
    utterance = await an_utterance(studio)
    running = asyncio.create_task(utterance(ear))
    utterance.add("Hello. How ")
    await until_idle()
    assert ear.heard == [b"Hello. "]
    utterance.add("are you")
    utterance.flush()
    await until_idle()
    assert ear.heard == [b"Hello. ", b"How are you "]
    utterance.add("Bye")
    utterance.complete()
    await running
    await studio.settled()
    assert (ear.admissions, ear.heard[-1]) == (3, b"Bye ")
    assert ear.endings == [Ending(Outcome.DONE, 23, Used(12, "counted"))]
    assert [fact.event.characters for fact in studio.speeches.outbox] == [12]


async def test_a_flush_is_of_what_is_there_and_not_of_what_comes_before_it_is_said() -> None:
    """It may be another utterance's turn, or the line to the vendor may be opening."""
    studio, ear = Studio(), Ear()
    utterance = await an_utterance(studio)
    utterance.add("OK, so")
    utterance.flush()
    utterance.add(" I met Dr")
    running = asyncio.create_task(utterance(ear))
    await until_idle()
    assert ear.heard == [b"OK, so "]
    utterance.add(". Smith today. Then")
    await until_idle()
    assert ear.heard[1:] == [b"I met Dr. Smith today. "]
    utterance.complete()
    await running
    await studio.settled()


async def test_who_hears_slowly_makes_the_vendor_wait() -> None:
    studio, ear = Studio(), Ear()
    ear.open.clear()
    utterance = await an_utterance(studio)
    running = asyncio.create_task(utterance(ear))
    utterance.add("One. ")
    await until_idle()
    for _ in range(10):
        await studio.lines.line.say("more")
    await until_idle()
    assert studio.lines.line.waiting == 10, "only the piece in hand was read"
    utterance.stop(Outcome.STOPPED)
    ear.open.set()
    await running
    await studio.settled()
    assert ear.endings[0].outcome is Outcome.STOPPED


async def test_who_is_gone_is_charged_for_what_was_said() -> None:
    studio, ear = Studio(), Ear()
    ear.is_gone = True
    utterance = await an_utterance(studio)
    utterance.add("One.")
    utterance.complete()
    await utterance(ear)
    await studio.settled()
    assert [fact.event.outcome for fact in studio.speeches.outbox] == ["client_gone"]
    assert not studio.lines.line.is_open


async def test_a_refused_text_leaves_the_former_to_be_heard() -> None:
    studio, ear = Studio(), Ear()
    utterance = await an_utterance(studio)
    running = asyncio.create_task(utterance(ear))
    utterance.add("One. ")
    await until_idle()
    studio.admission.refuses = True
    utterance.add("Two. ")
    await running
    await studio.settled()
    assert [type(refusal) for refusal in ear.refusals] == [LimitReached]
    assert ear.heard == [b"One. "]
    assert ear.endings == [Ending(Outcome.DONE, 5, Used(3, "counted"))]
    with pytest.raises(SpeechEnded):
        utterance.add("Three.")


async def test_a_first_text_that_is_refused_ends_it() -> None:
    studio, ear = Studio(), Ear()
    studio.admission.refuses = True
    utterance = await an_utterance(studio)
    utterance.add("One.")
    await utterance(ear)
    (ending,) = ear.endings
    assert (ending.outcome, ending.used) == (Outcome.REFUSED, None)
    assert isinstance(ending.failure, LimitReached)
    assert not ear.refusals
    assert not studio.speeches.kept


@pytest.mark.parametrize("place", ["opening", "saying", "reading"])
async def test_a_failing_vendor_ends_it(place: str) -> None:
    studio, ear = Studio(), Ear()
    failure: Exception = NoUsableKey("No key.") if place == "opening" else cut()
    if place == "opening":
        studio.lines.failure = failure
    elif place == "saying":
        studio.lines.line.unsaid = failure
    else:
        studio.lines.line.unheard = failure
    utterance = await an_utterance(studio)
    utterance.add("One.")
    await utterance(ear)
    await studio.settled()
    (ending,) = ear.endings
    assert (ending.failure, ending.used) == (failure, None)
    assert not studio.speeches.outbox
    assert [given.refunds for given in studio.admission.given] == [1]


async def test_one_that_is_stopped_before_its_turn_asks_nobody() -> None:
    studio, ear = Studio(), Ear()
    utterance = await an_utterance(studio)
    utterance.add("One.")
    utterance.stop(Outcome.STOPPED)
    await utterance(ear)
    assert ear.endings == [Ending(Outcome.STOPPED, 0, None)]
    assert not studio.admission.given


async def test_text_for_the_vendors_own_socket_is_told_as_it_is() -> None:
    studio, ear = Studio(), Ear()
    wish = replace(a_live_wish(model="eleven_multilingual_v2"), is_verbatim=True)
    utterance = LiveUtterance(await studio.speak_live(wish), Scheduled([50]))
    text = " Twelve  of them,\n" + "and " * 300 + "so it goes"
    for word in text.split(" "):
        utterance.add(f"{word} ")
    utterance.complete()
    await utterance(ear)
    await studio.settled()
    assert "".join(studio.lines.line.said) == f"{text} "
    assert len(studio.lines.line.said) > 1
    assert [fact.event.characters for fact in studio.speeches.outbox] == [len(text) + 1]


async def test_text_has_its_bounds() -> None:
    utterance = await an_utterance(Studio())
    with pytest.raises(TextNotSpeakable):
        utterance.add("\x07")
    utterance.add("   ")
    for _ in range(8):
        utterance.add("x" * 4_999)
    with pytest.raises(TooMuchText):
        utterance.add("x" * (LONGEST_UTTERANCE - 8 * 4_999))


async def test_a_bug_of_ours_keeps_nobody_waiting_and_is_settled() -> None:
    studio, ear = Studio(), Ear()
    studio.lines.failure = RuntimeError("a bug")
    utterance = await an_utterance(studio)
    utterance.add("Hello. ")
    running = asyncio.create_task(utterance(ear))
    await asyncio.wait({running}, timeout=1)
    assert running.done()
    with pytest.raises(RuntimeError, match="a bug"):
        await running
    await studio.settled()
    assert not studio.running.ids()
    assert [given.refunds for given in studio.admission.given] == [1]


async def test_an_utterance_that_is_as_long_as_may_be_is_taken() -> None:
    utterance = await an_utterance(Studio())
    for _ in range(8):
        utterance.add("x" * (LONGEST_UTTERANCE // 8))
    with pytest.raises(TooMuchText):
        utterance.add("x")


async def test_after_its_end_no_text_is_taken() -> None:
    complete, stopped = [await an_utterance(Studio()) for _ in range(2)]
    complete.complete()
    stopped.stop(Outcome.STOPPED)
    for utterance in (complete, stopped):
        with pytest.raises(SpeechEnded):
            utterance.add("More.")


async def test_who_is_cancelled_twice_is_settled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    studio, ear = Studio(), Ear()
    utterance = await an_utterance(studio)
    utterance.add("Hello. ")
    running = asyncio.create_task(utterance(ear))
    await until_idle()
    assert ear.heard
    conclude = utterance.speech.conclude

    async def slowly(outcome: Outcome) -> None:
        await asyncio.sleep(0.01)
        await conclude(outcome)

    monkeypatch.setattr(utterance.speech, "conclude", slowly)
    for _ in range(2):
        running.cancel()
        await asyncio.sleep(0.001)
    await asyncio.wait({running})
    await asyncio.sleep(0.02)
    await studio.settled()
    assert [fact.event.outcome for fact in studio.speeches.outbox] == ["stopped"]


@pytest.mark.parametrize(
    ("failure", "heard", "outcome"),
    [
        (cut(), False, Outcome.PROVIDER_FAILED),
        (NoUsableKey("No key."), False, Outcome.REFUSED),
        (VendorQuotaExhausted("No.", provider="elevenlabs"), True, Outcome.PROVIDER_FAILED),
    ],
)
async def test_what_was_heard_before_a_failure_is_charged(
    failure: ExpectedFailure, heard: bool, outcome: Outcome
) -> None:
    studio, ear = Studio(), Ear()
    utterance = await an_utterance(studio)
    utterance.add("One. ")
    if not heard:
        studio.lines.line.unheard = failure
    running = asyncio.create_task(utterance(ear))
    await until_idle()
    studio.lines.line.unsaid = failure
    if heard:
        utterance.add("Two. ")
    await running
    await studio.settled()
    assert [ending.outcome for ending in ear.endings] == [outcome]
    assert ear.refusals == [], "the vendor was told, and what it says is the end"
    assert [fact.event.outcome for fact in studio.speeches.outbox] == [outcome] * heard
