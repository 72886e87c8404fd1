"""Texts that are said in parts: heard as one, charged as asked, and ended at any point."""

from __future__ import annotations

import asyncio
import itertools
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from services.voice.actions.settle_orphans import SettleOrphans
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.domain import recital
from services.voice.domain.script import LONGEST_SPEECH
from services.voice.storage.admission import ValkeyAdmission
from services.voice.storage.speeches import SqlSpeeches
from shared.clock import SystemClock
from shared.ids import UserId
from shared.limits.admission import Admissions
from shared.tiers import tier_named
from shared.valkey import open_cache
from tests.support.mp3 import frames_in
from tests.support.players import seconds_of
from tests.support.simulator.audio import SECONDS_PER_CHARACTER
from tests.support.voice_service import Person, Voice, problem

RACHEL = "21m00Tcm4TlvDq8ikWAM"
SENTENCE = "Of all that is said here, nothing is new. "
LONG = SENTENCE * 285  # three parts
SMALL = {"format": "mp3_22050_32"}


def credits_of(person: Person) -> int:
    """What the vendor charged."""
    return sum(served["usage"].get("credits", 0) for served in person.served())


async def charged(voice: Voice, person: Person) -> tuple[str, int]:
    (usage,) = await voice.usage(person)
    return usage["outcome"], usage["characters"]


async def used_of_the_month(voice: Voice, person: Person) -> int:
    """As the counter stands; one more short speech tells it."""
    answer = await voice.say(person, "a")
    _, month = answer.headers["ratelimit"].split(", ")
    return 100_000 - 1 - int(month.partition(";r=")[2].partition(";")[0])


async def test_a_long_text_is_heard_as_one_and_charged_once(voice: Voice) -> None:
    ada = voice.person()
    answer = await voice.say(ada, LONG, **SMALL)
    assert (answer.status_code, answer.headers["x-character-count"]) == (200, str(len(LONG) - 1))
    length = seconds_of("mp3", answer.content)
    assert length == pytest.approx(len(LONG) * SECONDS_PER_CHARACTER, rel=0.01)
    assert [served["outcome"] for served in ada.served()] == ["completed"] * 3
    assert await charged(voice, ada) == ("done", credits_of(ada))
    (row,) = await voice.speeches(ada)
    assert (row["characters"], row["charged_characters"]) == (len(LONG) - 1, credits_of(ada))
    assert await used_of_the_month(voice, ada) == row["charged_characters"]


@pytest.mark.parametrize(
    ("format_", "samples", "rate"), [("mp3_22050_32", 576, 22_050), ("mp3_44100_64", 1_152, 44_100)]
)
async def test_between_parts_of_an_mp3_lies_no_silence(
    voice: Voice, format_: str, samples: int, rate: int
) -> None:
    answer = await voice.say(voice.person(), LONG, format=format_)
    seconds = len(frames_in(answer.content)) * samples / rate
    said = (len(LONG) - 3) * SECONDS_PER_CHARACTER
    # Of what encoders add that before the first part and after the last one is left.
    assert said < seconds < said + (1_152 + samples) / rate


@pytest.mark.parametrize("format_", ["opus_48000_32", "wav_8000", "pcm_8000", "ulaw_8000"])
async def test_every_codec_is_joined(voice: Voice, format_: str) -> None:
    answer = await voice.say(voice.person("enterprise"), LONG, format=format_)
    seconds = (len(LONG) - 3) * SECONDS_PER_CHARACTER
    match format_.partition("_")[0]:
        case "opus":
            length = seconds_of("opus", answer.content)
        case "wav":
            length = (len(answer.content) - 44) / 16_000
            assert answer.content.startswith(b"RIFF\xff\xff\xff\xffWAVE")
        case "pcm":
            length = len(answer.content) / 16_000
        case _:
            length = len(answer.content) / 8_000
    assert length == pytest.approx(seconds, rel=0.001)


async def test_a_whole_wav_tells_its_length(voice: Voice) -> None:
    answer = await voice.say(
        voice.person("enterprise"), LONG, format="wav_8000", headers={"accept": "application/json"}
    )
    length = seconds_of("wav", b64decode(answer.json()["audio_base64"]))
    assert length == pytest.approx((len(LONG) - 3) * SECONDS_PER_CHARACTER, rel=0.001)


async def test_the_longest_text_is_said(voice: Voice) -> None:
    ada = voice.person("enterprise")
    text = (SENTENCE * 1_000)[:LONGEST_SPEECH]
    answer = await voice.say(ada, text, **SMALL)
    assert answer.status_code == 200
    assert len(ada.served()) == 9
    assert await charged(voice, ada) == ("done", credits_of(ada))


async def hear_some(voice: Voice, person: Person, text: str, *, most: int) -> None:
    """Listen to so many bytes, then leave."""
    request = voice.client.build_request(
        "POST",
        "/voice/speech",
        json={"text": text, "voice_id": RACHEL, **SMALL},
        headers=person.headers,
    )
    answer = await voice.client.send(request, stream=True)
    heard = 0
    async for piece in answer.aiter_raw():
        heard += len(piece)
        if heard >= most:
            break
    await answer.aclose()


async def test_who_leaves_pays_for_the_parts_that_were_asked_for(voice: Voice) -> None:
    ada = voice.person()
    slow = f"[[sim:chunks=200,delay_ms=10]] {LONG}"
    await hear_some(voice, ada, slow, most=1)
    outcome, characters = await charged(voice, ada)
    assert (outcome, characters) == ("client_gone", credits_of(ada))
    assert characters < 5_001
    assert len(ada.served()) == 1
    # The rest went back.
    assert await used_of_the_month(voice, ada) == characters


async def test_who_leaves_later_pays_for_more(voice: Voice) -> None:
    ada = voice.person()
    third = SENTENCE * 238 + "[[sim:chunks=500,delay_ms=10]] " + SENTENCE * 40
    await hear_some(voice, ada, third, most=1_610_000)
    outcome, characters = await charged(voice, ada)
    assert (outcome, characters) == ("client_gone", credits_of(ada))
    assert len(ada.served()) == 3


@pytest.mark.parametrize("fault", ["cut", "server_error", "quota", "connection_reset"])
async def test_a_vendor_that_fails_in_the_middle_is_charged_for_what_it_made(
    voice: Voice, fault: str
) -> None:
    ada = voice.person()
    with pytest.raises(httpx.RemoteProtocolError):
        await voice.say(ada, f"{SENTENCE * 150}[[sim:fault={fault}]] {SENTENCE * 20}", **SMALL)
    outcome, characters = await charged(voice, ada)
    assert (outcome, characters) == ("provider_failed", credits_of(ada))
    assert await used_of_the_month(voice, ada) == characters


async def test_a_vendor_that_is_busy_for_a_moment_is_asked_again(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recital, "_BUSY_WAITS_SECONDS", (0.01, 0.05))
    ada = voice.person()
    said = asyncio.create_task(voice.say(ada, f"[[sim:chunks=50,delay_ms=10]] {LONG}", **SMALL))
    while not ada.served():
        await asyncio.sleep(0.01)
    voice.surroundings.simulator.add_fault("rate_limit", vendor="elevenlabs", key=ada.key)
    assert (await said).status_code == 200
    assert [served["status"] for served in ada.served()].count(429) == 1
    assert await charged(voice, ada) == ("done", credits_of(ada))


async def test_a_replica_that_is_lost_is_charged_for_what_it_had_asked(voice: Voice) -> None:
    ada = voice.person()
    slow = f"[[sim:chunks=500,delay_ms=10]] {LONG}"
    said = asyncio.create_task(hear_some(voice, ada, slow, most=100_000_000))
    await voice.until(lambda rows: bool(rows), ada)
    (row,) = await voice.speeches(ada)
    assert 4_000 < row["asked_characters"] <= 5_000
    await voice.database.execute(
        "update speech set lease_expires_at = $2 where id = $1",
        row["id"],
        datetime.now(UTC) - timedelta(minutes=1),
    )
    speeches = SqlSpeeches(voice.database)
    async with open_cache(voice.surroundings.cache_url) as cache:
        admission = ValkeyAdmission(Admissions(cache), speeches.charged_since)
        sweeper = SettleOrphans(
            speeches, SettleSpeech(speeches), SystemClock(), admission, patience=timedelta(0)
        )
        assert [await sweeper() for _look in range(2)] == [0, 1]
        # What it was never asked for comes back to the month.
        [*_, month] = await admission.states(
            UserId(ada.id), tier_named("pro"), now=datetime.now(UTC)
        )
        assert (month.name, month.used) == (
            "elevenlabs.characters_per_month",
            row["asked_characters"],
        )
    said.cancel()
    (usage,) = await voice.usage(ada)
    assert (usage["outcome"], usage["characters"]) == ("replica_lost", row["asked_characters"])


# --- times


def is_in_order(times: list[float]) -> bool:
    return all(earlier <= later for earlier, later in itertools.pairwise(times))


async def test_times_go_on_from_part_to_part(voice: Voice) -> None:
    answer = await voice.say(voice.person(), LONG, with_timestamps=True, **SMALL)
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    times = body["alignment"]
    # The white space between parts is not said.
    assert "".join(times["characters"]).replace(" ", "") == LONG.replace(" ", "")
    assert is_in_order(times["start_seconds"])
    assert len(times["start_seconds"]) == len(times["end_seconds"]) == len(times["characters"])
    length = seconds_of("mp3", b64decode(body["audio_base64"]))
    assert times["end_seconds"][-1] == pytest.approx(length, rel=0.01)


async def test_lines_come_as_they_are_spoken_and_the_last_says_that_it_is(voice: Voice) -> None:
    ada = voice.person()
    answer = await voice.say(
        ada,
        "[[sim:chunks=4]] One two three four.",
        with_timestamps=True,
        headers={"accept": "application/x-ndjson"},
    )
    assert answer.headers["content-type"] == "application/x-ndjson"
    *lines, last = (orjson.loads(line) for line in answer.content.splitlines())
    said = "".join("".join(line["alignment"]["characters"]) for line in lines)
    assert said == "[[sim:chunks=4]] One two three four."
    assert all(b64decode(line["audio_base64"]) for line in lines)
    assert last["is_final"]
    assert last["speech_id"] == answer.headers["x-speech-id"]
    assert last["usage"] == {"characters": credits_of(ada), "source": "provider"}


async def test_lines_without_times_hold_the_audio(voice: Voice) -> None:
    ada = voice.person()
    answer = await voice.say(ada, headers={"accept": "application/x-ndjson"})
    *lines, last = (orjson.loads(line) for line in answer.content.splitlines())
    audio = b"".join(b64decode(line["audio_base64"]) for line in lines)
    assert audio == (await voice.say(ada)).content
    assert {line["alignment"] for line in lines} == {None}
    assert last["is_final"]


# --- formats that the account's plan does not make


def on_a_free_plan(voice: Voice, tier: str = "enterprise") -> Person:
    person = voice.person(tier)
    return person.has_key(f"sk_free{person.id.hex}")


@pytest.mark.parametrize(
    ("wished", "given"),
    [
        ("mp3_44100_192", "mp3_44100_128"),
        ("pcm_48000", "pcm_32000"),
        ("wav_44100", "wav_32000"),
    ],
)
async def test_a_format_beyond_the_plan_becomes_the_best_of_its_codec(
    voice: Voice, wished: str, given: str
) -> None:
    ada = on_a_free_plan(voice)
    for _ in range(2):
        answer = await voice.say(ada, format=wished)
        assert answer.status_code == 200
        assert answer.headers["x-voice-format-fallback"] == f"{wished} -> {given}"
    # The first speech has found it out for both.
    assert [served["status"] for served in ada.served()] == [403, 200, 200]
    assert [row["format"] for row in await voice.speeches(ada)] == [given, given]
    assert sum(usage["characters"] for usage in await voice.usage(ada)) == credits_of(ada) == 24


async def test_json_tells_the_fallback_too(voice: Voice) -> None:
    ada = on_a_free_plan(voice)
    for accept in ("application/json", "application/x-ndjson"):
        answer = await voice.say(ada, format="mp3_44100_192", headers={"accept": accept})
        body: dict[str, Any] = orjson.loads(answer.content.splitlines()[-1])
        assert body["format_fallback"] == {"wished": "mp3_44100_192", "given": "mp3_44100_128"}
        assert body["format"] == "mp3_44100_128"
    ordinary = await voice.say(ada, headers={"accept": "application/json"})
    assert ordinary.json()["format_fallback"] is None


async def test_who_wants_that_format_or_none_is_refused(voice: Voice) -> None:
    ada = on_a_free_plan(voice)
    await voice.say(ada, format="mp3_44100_192")
    answer = await voice.say(ada, format="mp3_44100_192", strict_format=True)
    assert (answer.status_code, problem(answer)["code"]) == (502, "format_not_in_vendor_plan")
    assert len(await voice.usage(ada)) == 1


async def test_a_plan_that_lacks_the_voice_is_no_matter_of_formats(voice: Voice) -> None:
    ada = on_a_free_plan(voice, "pro")
    for format_ in ("mp3_44100_128", "mp3_44100_192"):
        answer = await voice.say(ada, voice_id="simulatedlibrary0001", format=format_)
        assert (answer.status_code, problem(answer)["code"]) == (502, "vendor_plan_required")
    assert await voice.usage(ada) == []


# --- hearers who take their time


async def test_a_slow_hearer_slows_the_vendor(voice: Voice) -> None:
    ada = voice.person("enterprise")
    text = (SENTENCE * 1_000)[:LONGEST_SPEECH]  # 150 MB of audio, in nine parts
    request = voice.client.build_request(
        "POST",
        "/voice/speech",
        json={"text": text, "voice_id": RACHEL, "format": "pcm_48000"},
        headers=ada.headers,
    )
    answer = await voice.client.send(request, stream=True)
    pieces = answer.aiter_raw()
    await anext(pieces)
    await asyncio.sleep(0.5)
    # The machine's own buffers on the way hold many megabytes, and nothing holds the rest.
    assert len(ada.served()) <= 3
    await answer.aclose()
    outcome, characters = await charged(voice, ada)
    assert (outcome, characters) == ("client_gone", credits_of(ada))
