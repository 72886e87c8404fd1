"""ElevenLabs' own socket at our door: its wire both ways, and one speech for each socket."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.voice_service import Person, Voice
from tests.support.voice_sockets import at_stream_input

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
    assert (usage["outcome"], usage["characters"]) == ("done", 7)
    (served,) = ada.served()
    assert (served["model"], served["outcome"]) == ("eleven_flash_v2_5", "completed")


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
    assert (usage["outcome"], usage["characters"]) == ("client_gone", (len(text.strip()) + 1) // 2)
