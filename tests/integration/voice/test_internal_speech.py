"""`WS /internal/speech`: chat has an answer spoken, sentence by sentence."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
import pytest
import pytest_asyncio

from services.voice.storage.admission import ValkeyAdmission
from services.voice.storage.speeches import SqlSpeeches
from shared.clients.voice import VoiceLine, VoiceLines
from shared.errors import Conflict, DependencyUnavailable, ExpectedFailure, NotInTier
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.limits.admission import Admissions
from shared.tiers import tier_named
from shared.valkey import open_cache
from tests.support.tokens import identity_of, serving
from tests.support.voice_service import Person, Voice

RACHEL = "21m00Tcm4TlvDq8ikWAM"


@pytest_asyncio.fixture(scope="module")
async def door(voice: Voice) -> AsyncIterator[str]:
    async with serving(voice.process.internal) as url:
        yield url


def on_behalf_of(person: Person, **changes: Any) -> OnBehalfOf:
    token = person.headers["authorization"].removeprefix("Bearer ")
    said = {"user_id": person.id, "request_id": f"req-{uuid4()}", "access_token": token}
    return OnBehalfOf(**{**said, "sign_in_id": uuid4(), **changes})


async def line_of(
    voice: Voice, door: str, by: OnBehalfOf, *, service: str = "chat", **manner: Any
) -> VoiceLine:
    lines = VoiceLines(door, identity_of(voice.surroundings.identity_key_file.parent, service))
    return await lines.line({"voice_id": RACHEL, **manner}, by=by)


@asynccontextmanager
async def a_line(
    voice: Voice, door: str, by: OnBehalfOf, **manner: Any
) -> AsyncIterator[VoiceLine]:
    line = await line_of(voice, door, by, **manner)
    try:
        yield line
    finally:
        await line.close()


async def next_of(line: VoiceLine) -> tuple[str, Mapping[str, Any]]:
    async with asyncio.timeout(10):
        name, data = await line.hear()
    return name, orjson.loads(data)


async def rest_of(line: VoiceLine) -> list[tuple[str, Mapping[str, Any]]]:
    events = [await next_of(line)]
    while events[-1][0] == "audio":
        events.append(await next_of(line))
    return events


async def test_sentences_are_spoken_as_they_come_and_charged_as_one_speech(
    voice: Voice, door: str
) -> None:
    ada = voice.person("pro")
    by = on_behalf_of(ada)
    session_id = str(uuid4())
    async with a_line(voice, door, by, format="mp3_44100_64", session_id=session_id) as line:
        await line.say("Hello there.")
        name, first = await next_of(line)
        assert (name, first["seq"], first["sentence"], first["format"]) == (
            "audio",
            1,
            1,
            "mp3_44100_64",
        )
        assert b64decode(first["audio_base64"]).startswith(b"\xff\xfb")
        await line.say("How are you?")
        await line.finish()
        *audio, (last, end) = await rest_of(line)
    assert audio[-1][1]["sentence"] == 2
    assert [event["seq"] for _, event in audio] == list(range(2, 2 + len(audio)))
    (usage,) = await voice.usage(ada)
    assert (last, end["outcome"], end["characters"]) == ("audio_end", "done", 13)
    assert (usage["operation"], usage["characters"], usage["outcome"]) == ("voice", 13, "done")
    assert usage["request_id"] == by.request_id, "by which it is found beside the chat's line"
    assert usage["session_id"] == session_id
    (speech,) = await voice.speeches(ada)
    assert str(speech["id"]) == end["speech_id"]


async def test_the_way_to_the_vendor_is_open_before_the_first_sentence_is_whole(
    voice: Voice, door: str
) -> None:
    ada, simulator = voice.person("pro"), voice.surroundings.simulator
    async with a_line(voice, door, on_behalf_of(ada)) as line:
        assert "stream-input" not in simulator.last_headers("elevenlabs")["path"]
        await line.prepare()

        async def path() -> str:
            return str((await asyncio.to_thread(simulator.last_headers, "elevenlabs"))["path"])

        async with asyncio.timeout(10):
            while "stream-input" not in await path():
                await asyncio.sleep(0.01)
        assert not await voice.speeches(ada), "it asks nothing of anybody"
        await line.finish()
        ((name, end),) = await rest_of(line)
    assert (name, end["speech_id"], end["outcome"]) == ("audio_end", None, "done")
    assert not await voice.usage(ada)


async def test_a_voice_of_the_release_before_is_not_told_what_it_does_not_know(
    voice: Voice, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    async def send(text: str) -> None:
        sent.append(text)

    async with a_line(voice, door, on_behalf_of(voice.person("pro"))) as line:
        assert line.prepares
        monkeypatch.setattr(line._connection, "send", send)
        line.prepares = False  # as where `ready` says nothing of it
        await line.prepare()
        await line.say("Hello there.")
    assert [orjson.loads(text)["op"] for text in sent] == ["say"]


async def test_an_answer_without_words_costs_nothing(voice: Voice, door: str) -> None:
    ada = voice.person("pro")
    async with a_line(voice, door, on_behalf_of(ada)) as line:
        await line.finish()
        assert await rest_of(line) == [
            ("audio_end", {"speech_id": None, "characters": 0, "outcome": "done"})
        ]
    assert not await voice.speeches(ada)


async def test_what_is_stopped_is_charged_as_far_as_it_was_said(voice: Voice, door: str) -> None:
    ada = voice.person("pro")
    async with a_line(voice, door, on_behalf_of(ada)) as line:
        await line.say("On and on. [[sim:chunks=100,delay_ms=50]]")
        await next_of(line)
        await line.stop()
        name, end = (await rest_of(line))[-1]
    assert (name, end["outcome"]) == ("audio_end", "stopped")
    (usage,) = await voice.usage(ada)
    assert (usage["outcome"], usage["characters"]) == ("stopped", end["characters"])


async def test_a_line_that_breaks_is_a_hearer_who_left(voice: Voice, door: str) -> None:
    ada = voice.person("pro")
    line = await line_of(voice, door, on_behalf_of(ada))
    await line.say("On and on. [[sim:chunks=100,delay_ms=50]]")
    await next_of(line)
    line._connection.transport.abort()  # as when chat's process is killed
    (usage,) = await voice.usage(ada)
    assert usage["outcome"] == "client_gone"


async def test_a_full_budget_ends_the_audio_and_not_what_was_said(voice: Voice, door: str) -> None:
    ada = voice.person("pro")
    async with open_cache(voice.surroundings.cache_url) as cache:
        charged_since = SqlSpeeches(voice.database).charged_since
        await ValkeyAdmission(Admissions(cache), charged_since).admit(
            UserId(ada.id),
            tier_named("pro"),
            99_980,
            now=datetime.now(UTC),
            reservation=uuid4(),
        )
    async with a_line(voice, door, on_behalf_of(ada)) as line:
        await line.say("Hello there.")
        await line.say("This is too much for this month.")
        await line.say("And so is this, all of it.")
        await line.finish()
        *audio, (name, end) = await rest_of(line)
    assert (name, end["problem"]["code"], end["problem"]["status"]) == (
        "audio_error",
        "limit_reached",
        429,
    )
    assert audio, "what had its place is heard"
    (usage,) = await voice.usage(ada)
    assert usage["characters"] == end["characters"] == 7


async def test_a_vendor_that_breaks_off_is_told(voice: Voice, door: str) -> None:
    ada = voice.person("pro")
    async with a_line(voice, door, on_behalf_of(ada)) as line:
        await line.say("Hello there. [[sim:chunks=4,cut,at=2]]")
        *audio, (name, end) = await rest_of(line)
    assert (len(audio), name, end["problem"]["code"]) == (2, "audio_error", "vendor_failed")
    (usage,) = await voice.usage(ada)
    assert usage["outcome"] == end["outcome"] == "provider_failed"


async def test_without_a_key_nothing_is_charged(voice: Voice, door: str) -> None:
    ada = voice.person("enterprise")
    async with a_line(voice, door, on_behalf_of(ada)) as line:
        del voice.surroundings.egress.keys[ada.id, "elevenlabs"]
        await line.say("Hello there.")
        ((name, end),) = await rest_of(line)
    assert (name, end["problem"]["code"], end["characters"]) == ("audio_error", "no_usable_key", 0)
    await voice.until_settled(ada)
    assert not await voice.usage(ada)


@pytest.mark.parametrize("key", [None, "sk_invalid_1"])
async def test_a_key_that_is_none_is_told_before_anything_is_asked(
    voice: Voice, door: str, key: str | None
) -> None:
    """Also where the tier includes every voice, so that none has to be looked up."""
    ada = voice.person("enterprise")
    if key is None:
        del voice.surroundings.egress.keys[ada.id, "elevenlabs"]
    else:
        ada.has_key(key)
    with pytest.raises(Conflict) as refused:
        await line_of(voice, door, on_behalf_of(ada))
    assert refused.value.code == "no_usable_key"
    assert not await voice.speeches(ada)


async def test_trouble_with_a_look_that_nobody_needs_keeps_nobody_silent(
    voice: Voice, door: str
) -> None:
    for key in ("sk_limited-read_2", "sk_unreachable-read_2"):
        ada = voice.person("enterprise").has_key(key)
        async with a_line(voice, door, on_behalf_of(ada)) as line:
            await line.say("Hello there.")
            await line.finish()
            assert (await rest_of(line))[-1][0] == "audio_end", key


@pytest.mark.parametrize(
    ("tier", "manner", "family", "code"),
    [
        ("free", {}, NotInTier, "realtime_not_in_tier"),
        ("pro", {"format": "pcm_48000"}, NotInTier, "format_not_in_tier"),
        ("pro", {"voice_id": "no/voice"}, ExpectedFailure, "voice_not_found"),
        ("enterprise", {"voice_id": "nobodysvoice"}, ExpectedFailure, "voice_not_found"),
        ("enterprise", {"format": "wav_24000"}, ExpectedFailure, "format_not_live"),
    ],
)
async def test_what_may_not_be_heard_is_refused_before_anything_is_said(
    voice: Voice,
    door: str,
    tier: str,
    manner: Mapping[str, Any],
    family: type[ExpectedFailure],
    code: str,
) -> None:
    ada = voice.person(tier)
    with pytest.raises(family) as refused:
        await line_of(voice, door, on_behalf_of(ada), **manner)
    assert refused.value.code == code
    assert not await voice.speeches(ada)


async def test_only_chat_may_ask_and_only_for_who_is_there(voice: Voice, door: str) -> None:
    ada = voice.person("pro")
    with pytest.raises(DependencyUnavailable):
        await line_of(voice, door, on_behalf_of(ada), service="billing")
    with pytest.raises(DependencyUnavailable):
        await line_of(voice, door, on_behalf_of(ada, access_token="a.b.c"))
    narrow = voice.surroundings.mint.headers(ada.id, tier="pro", scope="chat")
    token = narrow["authorization"].removeprefix("Bearer ")
    with pytest.raises(ExpectedFailure) as refused:
        await line_of(voice, door, on_behalf_of(ada, access_token=token))
    assert refused.value.code == "scope_missing"
    assert not isinstance(refused.value, Conflict)
