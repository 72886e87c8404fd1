"""ElevenLabs' own socket at our door: its wire both ways, and one speech for each socket."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from typing import Any
from uuid import uuid4

import pytest
from websockets.exceptions import InvalidStatus

from services.voice.domain.voice import VoiceSettings
from services.voice.providers import elevenlabs_live
from services.voice.providers.elevenlabs import settings_body
from shared.news.ended_sessions import EndedSessions
from shared.valkey import open_cache
from tests.support.voice_service import Person, Surroundings, Voice, running_voice
from tests.support.voice_sockets import RACHEL, at_stream_input

FLASH = "model_id=eleven_flash_v2_5&output_format=pcm_16000"


def token_of(person: Person) -> str:
    return person.headers["authorization"].removeprefix("Bearer ")


async def test_text_is_gathered_flushed_and_finished(voice: Voice) -> None:
    ada = voice.person()
    async with at_stream_input(voice.url, token_of(ada), query=FLASH) as client:
        await client.say(" ", voice_settings={"stability": 0.5})
        await client.say("Hello ")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.connection.recv(), 0.1)
        await client.say("there ", flush=True)
        audio = await client.next()
        assert audio["isFinal"] is None
        assert audio["normalizedAlignment"] is None
        assert "".join(audio["alignment"]["chars"]) == "Hello there "
        assert audio["alignment"]["charStartTimesMs"][:2] == [0, 40]
        assert len(b64decode(audio["audio"])) == 12 * 640 * 2
        await client.say("Bye ")
        await client.say("")
        messages, code = await client.rest()
    assert messages[-1] == {"isFinal": True, "audio": None}
    assert code == 1000
    (usage,) = await voice.usage(ada)
    (served,) = ada.served()
    assert (served["model"], served["outcome"]) == ("eleven_flash_v2_5", "completed")
    assert (usage["outcome"], usage["characters"]) == ("done", served["usage"]["credits"])
    assert served["usage"]["characters"] == len("Hello there Bye ")


async def test_white_space_by_itself_parts_words_and_else_keeps_the_socket_open(
    voice: Voice,
) -> None:
    ada = voice.person()
    async with at_stream_input(voice.url, token_of(ada), query=FLASH) as client:
        for text in (" ", "A title", "\n\n", " ", " ", "and", " ", "its text. ", " ", ""):
            await client.say(text)
        messages, code = await client.rest()
    chars = [char for one in messages[:-1] for char in one["alignment"]["chars"]]
    assert ("".join(chars), code) == ("A title\n\nand its text. ", 1000)
    (served,) = ada.served()
    assert served["usage"]["characters"] == len(chars)


async def test_enough_text_is_spoken_unasked(voice: Voice) -> None:
    ada = voice.person()
    async with at_stream_input(voice.url, token_of(ada), query=FLASH) as client:
        await client.say(" ", generation_config={"chunk_length_schedule": [60]})
        await client.say("xx " * 20)
        assert (await client.next())["audio"]
        await client.say("yy " * 17, try_trigger_generation=True)
        assert (await client.next())["audio"]
    async with at_stream_input(voice.url, token_of(ada), query=f"{FLASH}&auto_mode=true") as client:
        await client.say(" ")
        await client.say("A sentence. ")
        assert (await client.next())["audio"]


async def test_the_token_may_come_in_the_first_message_and_never_in_the_url(voice: Voice) -> None:
    ada = voice.person()
    for shown in (
        {"xi-api-key": token_of(ada)},
        {"xi_api_key": token_of(ada)},
        {"authorization": f"Bearer {token_of(ada)}"},
    ):
        async with at_stream_input(voice.url, query=FLASH) as client:
            await client.say(" ", **shown)
            await client.say("hi ", flush=True)
            assert (await client.next())["audio"]
    async with at_stream_input(voice.url, query=FLASH) as client:
        await client.say(" ")
        (message,), code = await client.rest()
        assert (message["error"], message["code"], code) == ("invalid_api_key", 1008, 1008)
    with pytest.raises(InvalidStatus) as refused:
        async with at_stream_input(voice.url, query=f"authorization={token_of(ada)}"):
            pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["detail"]["status"] == "invalid_api_key"


@pytest.mark.parametrize("shown_later", [False, True])
async def test_a_blank_header_is_no_token(voice: Voice, shown_later: bool) -> None:
    """As for the vendor's other calls: some programs send every header they know."""
    token = token_of(voice.person())
    key, blanks = (None, {"xi-api-key": ""}) if shown_later else (token, {})
    blank = {"authorization": "", **blanks}
    async with at_stream_input(voice.url, key, query=FLASH, further=blank) as client:
        await client.say(" ", **({"xi_api_key": token} if shown_later else {}))
        await client.say("hi ", flush=True)
        assert (await client.next())["audio"]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("{", "invalid_message"),
        ("[]", "invalid_message"),
        ('{"text": 7}', "invalid_message"),
        ('{"text": " ", "generation_config": {"chunk_length_schedule": [7]}}', "invalid_message"),
        ('{"text": " ", "voice_settings": {"stability": 7}}', "invalid_message"),
        ('{"text": "\\u0007"}', "text_not_speakable"),
    ],
)
async def test_a_bad_message_is_an_error_frame(voice: Voice, message: str, error: str) -> None:
    ada = voice.person()
    async with at_stream_input(voice.url, token_of(ada), query=FLASH) as client:
        await client.connection.send(message)
        (told,), code = await client.rest()
    assert (told["error"], told["code"], code) == (error, 1008, 1008)
    assert set(told) == {"message", "error", "code"}
    assert await voice.usage(ada) == []


@pytest.mark.parametrize(
    ("text", "error", "code"),
    [
        ("[[sim:fault=quota]] hi", "quota_exceeded", 1011),
        ("[[sim:fault=invalid_key]] hi", "no_usable_key", 1008),
        ("[[sim:cut]] hi", "vendor_failed", 1011),
    ],
)
async def test_what_the_vendor_does_is_told_in_its_form(
    voice: Voice, text: str, error: str, code: int
) -> None:
    ada = voice.person()
    async with at_stream_input(voice.url, token_of(ada), query=FLASH) as client:
        await client.say(" ")
        await client.say(text)
        await client.say("")
        messages, closed = await client.rest()
    assert (messages[-1]["error"], messages[-1]["code"], closed) == (error, code, code)


async def test_what_is_not_granted_is_an_error_frame(voice: Voice) -> None:
    free = voice.person("free")
    async with at_stream_input(voice.url, token_of(free)) as client:
        await client.say(" ")
        (told,), code = await client.rest()
        assert (told["error"], code) == ("paid_plan_required", 1008)
    ada = voice.person()
    async with at_stream_input(voice.url, token_of(ada), voice_id="nobody") as client:
        await client.say(" ")
        (told,), code = await client.rest()
        assert (told["error"], code) == ("voice_not_found", 1008)
    async with at_stream_input(voice.url, token_of(ada), query="output_format=wav_24000") as client:
        await client.say(" ")
        (told,), code = await client.rest()
        assert (told["error"], code) == ("format_not_live", 1008)


async def test_a_speed_that_other_ways_take_is_brought_within(voice: Voice) -> None:
    ada = voice.person()
    async with at_stream_input(voice.url, token_of(ada), query=FLASH) as client:
        await client.say(" ", voice_settings={"speed": 3})
        await client.say("Hello there. ")
        await client.say("")
        messages, _ = await client.rest()
    assert messages[-1] == {"isFinal": True, "audio": None}


async def test_who_wants_nothing_kept_at_the_vendor_is_heard(voice: Voice) -> None:
    ada = voice.person()
    query = f"{FLASH}&enable_logging=false"
    async with at_stream_input(voice.url, token_of(ada), query=query) as client:
        await client.say("Hello there. ")
        await client.say("")
        await client.rest()
    (asked,) = [
        call.query
        for call in voice.surroundings.egress.calls
        if call.grant.user_id == ada.id and call.path.endswith("/stream-input")
    ]
    assert "enable_logging=false" in asked.split("&")


async def test_silence_closes_it_and_a_space_keeps_it(voice: Voice) -> None:
    ada = voice.person()
    query = f"{FLASH}&inactivity_timeout=0.3"
    async with at_stream_input(voice.url, token_of(ada), query=query) as client:
        for _ in range(3):
            await client.say(" ")
            await asyncio.sleep(0.2)
        (told,), code = await client.rest()
    assert (told["error"], code) == ("input_timeout_exceeded", 1008)


async def test_who_leaves_is_charged_for_what_was_said(voice: Voice) -> None:
    ada = voice.person()
    text = "[[sim:chunks=50,delay_ms=50]] " + "and on " * 30
    async with at_stream_input(voice.url, token_of(ada), query=FLASH) as client:
        await client.say(" ")
        await client.say(text, flush=True)
        await client.next()
    (usage,) = await voice.usage(ada)
    assert (usage["outcome"], usage["characters"]) == ("client_gone", (len(text) + 1) // 2)


async def test_what_a_message_leaves_open_is_as_the_user_keeps_it(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[VoiceSettings] = []

    def body_of(settings: VoiceSettings) -> dict[str, Any]:
        told.append(settings)
        return settings_body(settings)

    monkeypatch.setattr(elevenlabs_live, "settings_body", body_of)
    ada = voice.person()
    path = f"/elevenlabs/v1/voices/{RACHEL}/settings/edit"
    own = {"stability": 0.15, "style": 0.6}
    assert (await voice.client.post(path, json=own, headers=ada.headers)).status_code == 200
    async with at_stream_input(voice.url, token_of(ada), query=FLASH) as client:
        await client.say(" ", voice_settings={"style": 0.1})
        await client.say("Hello. ", flush=True)
        await client.next()
    assert [(one.stability, one.style) for one in told] == [(0.15, 0.1)]


async def test_a_token_that_ends_lets_what_was_said_be_spoken_and_is_told(voice: Voice) -> None:
    ada = voice.person()
    short = voice.surroundings.mint.token(ada.id, tier="pro", lifetime_seconds=2)
    text = "[[sim:chunks=50,delay_ms=90]] " + "and on " * 30
    async with at_stream_input(voice.url, short, query=f"{FLASH}&inactivity_timeout=4") as client:
        await client.say(" ")
        await client.say(text, flush=True)
        messages, code = await client.rest()
    *audio, last = messages
    assert (last["error"], last["code"], code) == ("invalid_api_key", 1008, 1008)
    assert "expired" in last["message"]
    assert len(audio) == 50, "all of it"
    (usage,) = await voice.usage(ada)
    assert usage["outcome"] == "done"


async def test_a_token_that_ends_after_the_text_is_no_matter(voice: Voice) -> None:
    ada = voice.person()
    short = voice.surroundings.mint.token(ada.id, tier="pro", lifetime_seconds=2)
    async with at_stream_input(voice.url, short, query=FLASH) as client:
        await client.say(" ")
        await client.say("[[sim:chunks=50,delay_ms=80]] " + "and on " * 30)
        await client.say("")
        messages, code = await client.rest()
    assert (messages[-1], code) == ({"isFinal": True, "audio": None}, 1000)


async def test_a_session_that_ends_is_told_before_the_close(voice: Voice) -> None:
    ada, sign_in = voice.person(), uuid4()
    token = voice.surroundings.mint.token(ada.id, tier="pro", sid=str(sign_in))
    async with (
        at_stream_input(voice.url, token, query=FLASH) as client,
        open_cache(voice.surroundings.cache_url) as cache,
    ):
        await client.say(" ")
        await client.say("[[sim:chunks=50,delay_ms=60]] " + "and on " * 30, flush=True)
        await client.next()
        await EndedSessions(cache).tell([sign_in])
        messages, code = await client.rest()
    assert (messages[-1]["error"], messages[-1]["code"], code) == ("invalid_api_key", 4401, 4401)


async def test_a_replica_that_goes_away_says_so(surroundings: Surroundings) -> None:
    async with running_voice(surroundings) as voice:
        ada = voice.person()
        async with at_stream_input(voice.url, token_of(ada), query=FLASH) as client:
            await client.say(" ")
            await client.say("[[sim:chunks=50,delay_ms=60]] " + "and on " * 30, flush=True)
            await client.next()
            voice.process.stopping()
            messages, code = await client.rest()
        assert (messages[-1]["error"], messages[-1]["code"], code) == ("speech_stopped", 1012, 1012)
        (usage,) = await voice.usage(ada)
        assert usage["outcome"] == "stopped"


async def test_a_format_beyond_the_plan_is_refused_as_in_the_vendors_other_calls(
    voice: Voice,
) -> None:
    ada = voice.person("enterprise").has_key(f"sk_free{uuid4().hex}")
    query = "model_id=eleven_flash_v2_5&output_format=pcm_48000"
    async with at_stream_input(voice.url, token_of(ada), query=query) as client:
        await client.say(" ")
        await client.say("Hello. ", flush=True)
        messages, code = await client.rest()
    assert (messages[-1]["error"], code) == ("output_format_not_allowed", 1011)
