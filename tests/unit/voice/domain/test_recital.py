"""A long text in parts: asked in time, joined, charged as asked, and ended at any point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from services.voice.domain import recital
from services.voice.domain.errors import FormatNotInVendorPlan
from services.voice.domain.piece import Piece
from services.voice.domain.ports import Audio
from services.voice.domain.running_speech import RunningSpeech
from services.voice.domain.speech import Hold, Outcome, Used, settlement_of_lost
from shared import withdrawals
from shared.errors import DependencyUnavailable
from shared.vendors.failures import (
    VendorFailed,
    VendorOverloaded,
    VendorPlanRequired,
    VendorQuotaExhausted,
    VendorRateLimited,
)
from tests.support.mp3 import made_frame
from tests.support.tasks import tasks_of
from tests.support.voice import (
    FakeAudio,
    FakeProvider,
    FakeSpeeches,
    Studio,
    a_live_wish,
    a_wish,
    an_order,
    cut,
)

SENTENCE = "Of all that is said here, nothing is new. "
LONG = (SENTENCE * 285).strip()  # three parts
RAW = "ulaw_8000"
MUCH = b"\xff" * 100_000
FRAME = made_frame(sound_bits=(400, 400))
FRAME_SECONDS = 1_152 / 44_100
PARTS = [len(SENTENCE) * 119 - 1, len(SENTENCE) * 119 - 1, len(SENTENCE) * 47 - 1]


async def begun(studio: Studio, *audios: FakeAudio | BaseException) -> RunningSpeech:
    studio.provider.audios = list(audios)
    return await studio.speak(a_wish(an_order(LONG, format=RAW)))


def settled(studio: Studio) -> tuple[Outcome, Used | None]:
    (settlement,) = studio.speeches.settlements
    assert settlement is not None
    return settlement.outcome, settlement.used


async def test_parts_are_heard_as_one_and_charged_once() -> None:
    studio = Studio()
    speech = await begun(studio, *(FakeAudio(word, characters=7) for word in (b"a", b"b", b"c")))
    assert await studio.hear(speech) == (b"abc", "done")
    assert [script.characters for script in studio.provider.scripts] == PARTS
    assert settled(studio) == (Outcome.DONE, Used(21, "provider"))
    assert len(studio.speeches.outbox) == 1
    (reservation,) = studio.admission.given
    assert (studio.admission.characters, reservation.settled) == ([len(LONG)], [21])
    (kept,) = studio.speeches.kept.values()
    assert kept.hold.asked_characters == sum(PARTS)


async def test_a_count_that_is_missing_is_that_of_the_text() -> None:
    studio = Studio()
    audios = (FakeAudio(b"a", characters=7), FakeAudio(b"b"), FakeAudio(b"c", characters=7))
    await studio.hear(await begun(studio, *audios))
    assert settled(studio) == (Outcome.DONE, Used(14 + PARTS[1], "counted"))


async def test_the_next_part_is_asked_for_shortly_before_this_ones_end() -> None:
    studio, gate = Studio(), asyncio.Event()
    much = b"\xff" * 8_000  # a second
    first = FakeAudio(*[much] * 280, gate, much)
    speech = await begun(studio, first, FakeAudio(b"b"), FakeAudio(b"c"))
    heard: list[int] = []

    async def write(piece: bytes) -> None:
        heard.append(len(studio.provider.scripts))
        await asyncio.sleep(0)

    relay = asyncio.create_task(studio.relay(speech, write))
    while len(heard) < 280:
        await asyncio.sleep(0)
    # About five minutes are expected; with four fifths of them the vendor is asked to go on.
    assert 238 <= heard.index(2) <= 244
    gate.set()
    assert await relay is Outcome.DONE


async def test_who_leaves_pays_for_what_was_asked_for() -> None:
    studio, gate = Studio(), asyncio.Event()
    first, second = FakeAudio(MUCH, characters=7), FakeAudio(b"b", gate, characters=8)
    speech = await begun(studio, first, second)
    heard = bytearray()

    async def write(piece: bytes) -> None:
        heard.extend(piece)

    relay = asyncio.create_task(studio.relay(speech, write))
    while heard != MUCH + b"b":
        await asyncio.sleep(0)
    speech.end(Outcome.CLIENT_GONE)
    assert await relay is Outcome.CLIENT_GONE
    await studio.settled()
    assert settled(studio) == (Outcome.CLIENT_GONE, Used(15, "provider"))
    assert studio.admission.given[0].settled == [15]
    assert len(studio.provider.scripts) == 2


@pytest.mark.parametrize(
    "failure",
    [cut(), VendorQuotaExhausted("No.", provider="elevenlabs"), DependencyUnavailable("keyvault")],
)
async def test_a_part_that_is_not_said_is_not_charged(failure: Exception) -> None:
    studio = Studio()
    speech = await begun(studio, FakeAudio(b"a", characters=7), failure)
    assert await studio.hear(speech) == (b"a", "provider_failed")
    assert settled(studio) == (Outcome.PROVIDER_FAILED, Used(7, "provider"))


async def test_a_part_that_is_cut_is_charged() -> None:
    studio = Studio()
    first, second = FakeAudio(MUCH, characters=7), FakeAudio(b"b", cut(), characters=8)
    speech = await begun(studio, first, second)
    assert await studio.hear(speech) == (MUCH + b"b", "provider_failed")
    assert settled(studio) == (Outcome.PROVIDER_FAILED, Used(15, "provider"))


@pytest.mark.parametrize(
    "second",
    [[cut()], [FakeAudio()], [FakeAudio(cut())], [FakeAudio(b"\xff\xfb", cut())]],
    ids=["not taken", "without audio", "cut before it", "cut within its first frame"],
)
async def test_all_that_came_of_an_mp3_is_heard_before_it_is_cut(
    second: list[FakeAudio | Exception],
) -> None:
    """It is charged, too; and what is kept back is kept back for a part that never comes."""
    studio, part = Studio(), FRAME * 100
    studio.provider.audios = [FakeAudio(part[:9_000], part[9_000:]), *second]
    speech = await studio.speak(a_wish(an_order(LONG, format="mp3_44100_128")))
    heard, outcome = await studio.hear(speech)
    assert (heard.removesuffix(b"\xff\xfb"), outcome) == (part, "provider_failed")


async def test_all_that_came_of_a_part_of_an_mp3_is_heard_before_it_is_cut() -> None:
    studio, part = Studio(), FRAME * 100
    studio.provider.audios = [FakeAudio(part + FRAME[:50], cut())]
    speech = await studio.speak(a_wish(an_order(LONG, format="mp3_44100_128")))
    assert await studio.hear(speech) == (part + FRAME[:50], "provider_failed")


async def test_who_waits_for_a_part_hears_what_came_before_it_meanwhile() -> None:
    studio, gate, part = Studio(), asyncio.Event(), FRAME * 100
    audios = [FakeAudio(part + b"?"), FakeAudio(gate, part), FakeAudio(part)]
    studio.provider.audios = list(audios)
    speech = await studio.speak(a_wish(an_order(LONG, format="mp3_44100_128")))
    heard = bytearray()

    async def write(piece: bytes) -> None:
        heard.extend(piece)

    relay = asyncio.create_task(studio.relay(speech, write))
    while not audios[1].is_open:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert heard == part + b"?"
    gate.set()
    assert await relay is Outcome.DONE


async def test_a_part_without_audio_is_a_failure_and_not_charged() -> None:
    studio = Studio()
    speech = await begun(studio, FakeAudio(b"a", characters=7), FakeAudio(characters=8))
    assert await studio.hear(speech) == (b"a", "provider_failed")
    assert settled(studio) == (Outcome.PROVIDER_FAILED, Used(7, "provider"))


def busy() -> VendorRateLimited:
    return VendorRateLimited("Busy.", provider="elevenlabs", retry_after=timedelta())


async def test_who_is_busy_is_asked_again_and_in_the_end_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recital, "_BUSY_WAITS_SECONDS", (0.0, 0.0))
    studio = Studio()
    words = [FakeAudio(b"b", characters=7), FakeAudio(b"c", characters=7)]
    speech = await begun(studio, FakeAudio(b"a", characters=7), busy(), busy(), *words)
    assert await studio.hear(speech) == (b"abc", "done")
    assert settled(studio) == (Outcome.DONE, Used(21, "provider"))
    studio = Studio()
    speech = await begun(studio, FakeAudio(b"a"), busy(), busy(), busy())
    assert (await studio.hear(speech))[1] == "provider_failed"
    assert studio.speeches.outbox[0].event.characters == PARTS[0]


async def test_a_speech_that_somebody_else_has_settled_asks_for_no_more() -> None:
    studio = Studio()
    speech = await begun(studio, FakeAudio(b"a"))
    (kept,) = studio.speeches.kept.values()
    kept.settlement = speech.settlement(Outcome.REPLICA_LOST)
    assert await studio.hear(speech) == (b"a", "provider_failed")
    assert len(studio.provider.scripts) == 1
    assert studio.speeches.outbox == []


async def test_a_database_that_is_away_is_no_reason_to_fall_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*_: object) -> bool:
        raise DependencyUnavailable("database")

    studio = Studio()
    monkeypatch.setattr(type(studio.speeches), "ask", away)
    speech = await begun(studio, FakeAudio(b"a"), FakeAudio(b"b"), FakeAudio(b"c"))
    assert await studio.hear(speech) == (b"abc", "done")


async def test_the_first_part_decides_whether_anything_is_charged() -> None:
    studio = Studio()
    with pytest.raises(VendorFailed):
        await begun(studio, FakeAudio(cut()))
    assert settled(studio) == (Outcome.PROVIDER_FAILED, None)
    assert studio.admission.given[0].refunds == 1
    assert studio.admission.given[0].settled == []


async def test_times_are_counted_from_the_beginning_of_the_speech() -> None:
    studio = Studio()
    second = b"\xff" * 8_000
    studio.provider.audios = [
        FakeAudio(b"a" + second[1:], b"b" + second[1:]),
        FakeAudio(b"c" + second[1:]),
        FakeAudio(b"d" + second[1:]),
    ]
    speech = await studio.speak(a_wish(an_order(LONG, format=RAW, with_timestamps=True)))
    pieces: list[Piece] = []

    async def write(piece: Piece) -> None:
        pieces.append(piece)

    assert await studio.relay.in_pieces(speech, write) is Outcome.DONE
    times = [piece.alignment for piece in pieces if piece.alignment is not None]
    assert [(each.characters, each.starts, each.ends) for each in times] == [
        (["a"], [0.0], [1.0]),
        (["b"], [1.0], [2.0]),
        (["c"], [2.0], [3.0]),
        (["d"], [3.0], [4.0]),
    ]


async def starts_and_ends(*audios: FakeAudio) -> list[tuple[float, float]]:
    """Of each piece's letter, in a speech as mp3."""
    studio, pieces = Studio(), list[Piece]()
    studio.provider.audios = list(audios)
    order = an_order(LONG, format="mp3_44100_128", with_timestamps=True)

    async def write(piece: Piece) -> None:
        pieces.append(piece)

    speech = await studio.speak(a_wish(order))
    assert await studio.relay.in_pieces(speech, write) is Outcome.DONE
    times = [piece.alignment for piece in pieces if piece.alignment is not None]
    return [
        (start, end) for each in times for start, end in zip(each.starts, each.ends, strict=True)
    ]


async def test_times_follow_what_is_left_out_between_parts_of_an_mp3() -> None:
    part = FRAME * 100
    # The first piece of the second part is not enough to be sure of.
    times = await starts_and_ends(
        FakeAudio(part), FakeAudio(part[:500], part[500:]), FakeAudio(part)
    )
    begins = [0, 99 * FRAME_SECONDS, 99 * FRAME_SECONDS + 1, 198 * FRAME_SECONDS]
    assert [start for start, _ in times] == pytest.approx(begins, abs=0.001)
    assert [end - start for start, end in times] == pytest.approx([1] * 4)


async def test_times_never_go_back() -> None:
    # Of a letter that takes a second a frame was left out.
    part = FRAME * 38
    times = await starts_and_ends(*[FakeAudio(part) for _ in range(3)])
    assert times == [
        (0, 1),
        (1, pytest.approx(37 * FRAME_SECONDS + 1, abs=0.001)),
        (times[1][1], pytest.approx(74 * FRAME_SECONDS + 1, abs=0.001)),
    ]


async def test_a_cancelled_relay_leaves_no_part_open() -> None:
    studio, gate = Studio(), asyncio.Event()
    first, second = FakeAudio(b"a"), FakeAudio(b"b", gate)
    relay = asyncio.create_task(studio.hear(await begun(studio, first, second)))
    while not second.is_open:
        await asyncio.sleep(0)
    relay.cancel()
    with pytest.raises(asyncio.CancelledError):
        await relay
    await studio.settled()
    assert (first.is_open, second.is_open) == (False, False)
    assert settled(studio)[0] is Outcome.STOPPED


# --- formats that a plan does not make


async def test_the_next_best_format_is_asked_for_and_remembered() -> None:
    studio = Studio()
    by = a_wish().by
    studio.provider.audios = [
        FormatNotInVendorPlan("elevenlabs"),
        *(FakeAudio(b"one") for _ in range(4)),
    ]
    for _ in range(2):
        speech = await studio.speak(a_wish(an_order(format="mp3_44100_192"), by=by))
        assert speech.script.format.name == "mp3_44100_128"
        assert speech.wished_format is not None
        assert speech.wished_format.name == "mp3_44100_192"
    names = [script.format.name for script in studio.provider.scripts]
    assert names == ["mp3_44100_192", "mp3_44100_128", "mp3_44100_128"]
    studio.clock.at += timedelta(minutes=31)
    await studio.speak(a_wish(an_order(format="mp3_44100_192"), by=by))
    assert studio.provider.scripts[-1].format.name == "mp3_44100_192"
    other = await studio.speak(a_wish(an_order(format="mp3_44100_192")))
    assert other.wished_format is None


async def test_a_plan_is_looked_at_again_also_for_who_never_pauses() -> None:
    studio, by = Studio(), a_wish().by
    studio.provider.audios = [
        FormatNotInVendorPlan("elevenlabs"),
        *(FakeAudio(b"one") for _ in range(3)),
    ]
    for _ in range(3):
        await studio.speak(a_wish(an_order(format="mp3_44100_192"), by=by))
        studio.clock.at += timedelta(minutes=20)
    names = [script.format.name for script in studio.provider.scripts]
    assert names == ["mp3_44100_192", "mp3_44100_128", "mp3_44100_128", "mp3_44100_192"]


async def test_where_the_codec_is_refused_altogether_the_tiers_default_is_given() -> None:
    studio, refused = Studio(), FormatNotInVendorPlan("elevenlabs")
    studio.provider.audios = [refused, refused, FakeAudio(b"one")]
    speech = await studio.speak(a_wish(an_order(format="opus_48000_192"), tier="enterprise"))
    assert speech.script.format.name == "mp3_44100_128"
    (kept,) = studio.speeches.kept.values()
    assert kept.hold.format == "mp3_44100_128"


async def test_a_strict_format_is_refused_and_refunded() -> None:
    studio = Studio()
    studio.provider.audios = [VendorPlanRequired("No.", provider="elevenlabs")]
    with pytest.raises(FormatNotInVendorPlan):
        await studio.speak(a_wish(an_order(format="mp3_44100_192", strict_format=True)))
    assert len(studio.provider.scripts) == 1
    assert settled(studio) == (Outcome.REFUSED, None)
    assert studio.admission.given[0].refunds == 1


async def test_a_plan_that_makes_nothing_of_it_is_told_as_it_was_at_first() -> None:
    studio = Studio()
    first = VendorPlanRequired("The voice.", provider="elevenlabs")
    studio.provider.audios = [first, VendorPlanRequired("Still.", provider="elevenlabs")]
    with pytest.raises(VendorPlanRequired) as refused:
        await studio.speak(a_wish(an_order(format="mp3_44100_192")))
    assert refused.value is first
    studio.provider.failure = first
    studio.provider.scripts.clear()
    with pytest.raises(VendorPlanRequired):
        await studio.speak(a_wish(an_order(format="mp3_44100_64")))
    assert len(studio.provider.scripts) == 1  # that one every plan makes


# --- a hold of which nobody knows whether it was written


class WrittenInTheEnd(FakeSpeeches):
    async def hold(self, hold: Hold) -> bool:
        await FakeSpeeches.hold(self, hold)
        raise asyncio.CancelledError


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withdrawals, "_WRITTEN_AFTER_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(withdrawals, "_PACE_SECONDS", 0.005)
    monkeypatch.setattr(withdrawals, "_LONGEST_WAIT_SECONDS", 0.01)


@pytest.mark.usefixtures("soon")
async def test_a_hold_whose_writing_was_cancelled_is_withdrawn() -> None:
    studio = Studio(speeches=WrittenInTheEnd())
    speak = studio.speak
    with pytest.raises(asyncio.CancelledError):
        await speak(a_wish())
    assert speak.withdraw.work is not None
    await speak.withdraw.work
    assert settled(studio) == (Outcome.REFUSED, None)
    assert studio.admission.given[0].refunds == 1
    assert studio.provider.scripts == []


@pytest.mark.usefixtures("soon")
async def test_a_database_that_is_away_is_not_asked_by_each_whose_hold_may_be_written() -> None:
    studio = Studio(speeches=WrittenInTheEnd(outages=1_000))
    speak, before = studio.speak, tasks_of(withdrawals)
    for _ in range(50):
        with pytest.raises(asyncio.CancelledError):
            await speak(a_wish())
    assert len(tasks_of(withdrawals) - before) == 1
    await asyncio.sleep(0.05)
    assert 1 <= 1_000 - studio.speeches.outages <= 40
    studio.speeches.outages = 0
    assert speak.withdraw.work is not None
    await speak.withdraw.work
    outcomes = [settlement and settlement.outcome for settlement in studio.speeches.settlements]
    assert outcomes == [Outcome.REFUSED] * 50


async def test_what_is_known_not_to_be_written_is_not_withdrawn() -> None:
    studio = Studio()
    studio.speeches.unwritten = DependencyUnavailable("database", did_nothing=True)
    speak, live = studio.speak, studio.speak_live
    with pytest.raises(DependencyUnavailable):
        await speak(a_wish())
    speech = await live(a_live_wish())
    with pytest.raises(DependencyUnavailable):
        await speech.say("One.")
    assert speak.withdraw.work is live.withdraw.work is None


async def test_who_leaves_while_a_part_is_asked_for_pays_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    studio, asked = Studio(), asyncio.Event()
    speech = await begun(studio, FakeAudio(b"a", characters=7))
    speak = FakeProvider.speak

    @asynccontextmanager
    async def slow(provider: FakeProvider, *parts: Any, **more: Any) -> AsyncIterator[Audio]:
        asked.set()
        await asyncio.Event().wait()
        async with speak(provider, *parts, **more) as audio:
            yield audio

    monkeypatch.setattr(FakeProvider, "speak", slow)
    hearing = asyncio.create_task(studio.hear(speech))
    await asked.wait()
    speech.end(Outcome.CLIENT_GONE)
    await hearing
    # The vendor may have heard of it, and then charges for it.
    assert settled(studio) == (Outcome.CLIENT_GONE, Used(7 + PARTS[1], "counted"))


async def test_who_leaves_before_a_part_is_asked_for_does_not_pay_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    studio, telling = Studio(), asyncio.Event()
    speech = await begun(studio, FakeAudio(b"a", characters=7))

    async def slow(*_parts: object) -> bool:
        telling.set()
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(FakeSpeeches, "ask", slow)
    hearing = asyncio.create_task(studio.hear(speech))
    await telling.wait()
    speech.end(Outcome.CLIENT_GONE)
    await hearing
    assert settled(studio) == (Outcome.CLIENT_GONE, Used(7, "provider"))


async def test_of_a_lost_replica_counts_what_had_been_asked_for() -> None:
    studio = Studio()
    await begun(studio, FakeAudio(b"a"))
    await studio.speak(a_wish())
    asked = [settlement_of_lost(kept.hold).used for kept in studio.speeches.kept.values()]
    assert asked == [Used(PARTS[0], "counted"), Used(12, "counted")]


@pytest.mark.parametrize("failure", [VendorRateLimited, VendorOverloaded])
@pytest.mark.parametrize(("told", "waited"), [(0.0, 0.0), (0.05, 0.05), (60.0, 0.1)])
async def test_who_is_busy_is_given_the_time_that_they_ask_for_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
    failure: type[VendorRateLimited | VendorOverloaded],
    told: float,
    waited: float,
) -> None:
    monkeypatch.setattr(recital, "_BUSY_WAITS_SECONDS", (0.0,))
    monkeypatch.setattr(recital, "_LONGEST_WAIT_SECONDS", 0.1)
    studio = Studio()
    busy = failure("Busy.", provider="elevenlabs", retry_after=timedelta(seconds=told))
    speech = await begun(studio, FakeAudio(b"a"), busy, FakeAudio(b"b"), FakeAudio(b"c"))
    began = asyncio.get_running_loop().time()
    assert await asyncio.wait_for(studio.hear(speech), 5) == (b"abc", "done")
    assert asyncio.get_running_loop().time() - began >= waited
