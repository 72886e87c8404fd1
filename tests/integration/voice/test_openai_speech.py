"""OpenAI's `/v1/audio/speech`: ElevenLabs' voices in OpenAI's wire."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Any

import httpx
import orjson
import pytest

from services.voice.api.openai_speech_body import VOICES
from tests.support.simulator.elevenlabs.studio import EVERYBODYS
from tests.support.voice_service import Person, Voice

RACHEL = "21m00Tcm4TlvDq8ikWAM"
LIBRARY = "simulatedlibrary0001"


async def say(
    voice_: Voice, person: Person, text: str = "Hello there.", /, **parts: Any
) -> httpx.Response:
    path = parts.pop("path", "/v1/audio/speech")
    headers = {**person.headers, **parts.pop("headers", {})}
    body = {"model": "tts-1", "input": text, "voice": "alloy", **parts}
    return await voice_.client.post(path, json=body, headers=headers)


def error(answer: httpx.Response) -> dict[str, Any]:
    """The error in OpenAI's form."""
    assert answer.headers["content-type"] == "application/json", answer.text
    found: dict[str, Any] = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= found.keys()
    return found


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1"])
@pytest.mark.parametrize(
    ("method", "call"),
    [("POST", "transcriptions"), ("POST", "translations"), ("GET", "voices"), ("GET", "speech")],
)
async def test_other_calls_are_told_in_openais_form(
    voice: Voice, prefix: str, method: str, call: str
) -> None:
    ada = voice.person("pro")
    path = f"{prefix}/audio/{call}"
    answer = await voice.client.request(method, path, headers=ada.headers)
    assert (answer.status_code, error(answer)["code"]) == (404, "call_not_offered")
    stranger = await voice.client.request(method, path)
    assert (stranger.status_code, error(stranger)["type"]) == (401, "authentication_error")


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/openai/v1/audio/speech"])
async def test_audio_is_spoken_and_charged_once(voice: Voice, path: str) -> None:
    ada = voice.person("pro")
    answer = await say(voice, ada, path=path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mpeg")
    assert answer.headers["x-companion-provider"] == "elevenlabs"
    assert answer.headers["x-ratelimit-remaining-requests"] == "19"
    (served,), (usage,) = ada.served(), await voice.usage(ada)
    assert served["model"] == "eleven_flash_v2_5"
    assert usage["characters"] == served["usage"]["credits"] == 6


@pytest.mark.parametrize(
    ("model", "spoken_by"),
    [
        ("tts-1-hd", "eleven_multilingual_v2"),
        ("gpt-4o-mini-tts", "eleven_flash_v2_5"),
        ("elevenlabs/eleven_v4", "eleven_v4"),
        ("elevenlabs/elevenlabs.high", "eleven_multilingual_v2"),
        ("elevenlabs/", "eleven_multilingual_v2"),
        ("default", "eleven_multilingual_v2"),
        ("eleven_flash_v2_5", "eleven_flash_v2_5"),
    ],
)
async def test_models_by_openais_names_and_the_vendors(
    voice: Voice, model: str, spoken_by: str
) -> None:
    ada = voice.person("enterprise")
    answer = await say(voice, ada, model=model)
    assert answer.status_code == 200, answer.text
    assert [one["model"] for one in ada.served()] == [spoken_by]


async def test_every_name_of_a_voice_is_a_stock_voice(voice: Voice) -> None:
    stock = {one.id for one in EVERYBODYS if one.category == "premade"}
    assert set(VOICES.values()) <= stock
    free = voice.person("free")
    for spoken in ("coral", RACHEL, {"id": RACHEL}):
        assert (await say(voice, free, voice=spoken)).status_code == 200
    assert [row["voice_id"] for row in await voice.speeches(free)] == [
        VOICES["coral"],
        RACHEL,
        RACHEL,
    ]


@pytest.mark.parametrize(
    ("format_", "spoken_as"),
    [
        ("mp3", "mp3_44100_128"),
        ("opus", "opus_48000_64"),
        ("pcm", "pcm_24000"),
        ("wav", "wav_24000"),
    ],
)
async def test_formats(voice: Voice, format_: str, spoken_as: str) -> None:
    ada = voice.person("enterprise")
    answer = await say(voice, ada, response_format=format_)
    assert answer.status_code == 200, answer.text
    assert [row["format"] for row in await voice.speeches(ada)] == [spoken_as]


async def test_events_hold_the_audio_and_end_with_what_was_used(voice: Voice) -> None:
    ada = voice.person()
    plain = await say(voice, ada)
    answer = await say(voice, ada, stream_format="sse")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [orjson.loads(line[6:]) for line in answer.text.split("\n\n") if line]
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert b"".join(b64decode(event["audio"]) for event in deltas) == plain.content
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["total_tokens"] == 0
    assert done["usage"]["characters"] in {0, 6}  # nothing, where it was said before


async def test_events_that_break_off_end_with_an_error(voice: Voice) -> None:
    ada = voice.person()
    answer = await say(voice, ada, "A b c d. [[sim:cut,at=2,chunks=8]]", stream_format="sse")
    last = orjson.loads(answer.text.split("\n\n")[-2].removeprefix("data: "))
    assert last["error"]["code"] == "vendor_failed"
    (usage,) = await voice.usage(ada)
    assert usage["outcome"] == "provider_failed"
    with pytest.raises(httpx.RemoteProtocolError):
        await say(voice, ada, "A b c d. [[sim:cut,at=2,chunks=8]]")


@pytest.mark.parametrize(
    ("tier", "body", "status", "kind", "code", "param"),
    [
        ("pro", {"model": "gpt-6-luna"}, 404, "invalid_request_error", "model_not_found", "model"),
        ("pro", {"model": 7}, 400, "invalid_request_error", "bad_parameter", "model"),
        ("pro", {"voice": "a.b"}, 404, "invalid_request_error", "voice_not_found", "voice"),
        ("free", {"voice": "nobody"}, 404, "invalid_request_error", "voice_not_found", "voice"),
        ("pro", {"voice": ""}, 400, "invalid_request_error", "bad_parameter", "voice"),
        ("pro", {"voice": {}}, 400, "invalid_request_error", "bad_parameter", "voice"),
        ("pro", {"input": ""}, 400, "invalid_request_error", "text_not_speakable", "input"),
        ("pro", {"input": None}, 400, "invalid_request_error", "bad_parameter", "input"),
        ("pro", {"speed": 4}, 400, "invalid_request_error", "bad_parameter", "speed"),
        ("pro", {"stream_format": "x"}, 400, None, "bad_parameter", "stream_format"),
        ("free", {"input": "a" * 5_001}, 402, "insufficient_quota", "text_not_in_tier", "input"),
        ("free", {"voice": LIBRARY}, 402, "insufficient_quota", "voice_not_in_tier", "voice"),
        (
            "free",
            {"model": "tts-1-hd"},
            402,
            "insufficient_quota",
            "voice_model_not_in_tier",
            "model",
        ),
        (
            "free",
            {"response_format": "pcm"},
            402,
            "insufficient_quota",
            "format_not_in_tier",
            "response_format",
        ),
    ],
)
async def test_a_rule_of_ours_is_told_in_openais_form(
    voice: Voice,
    tier: str,
    body: dict[str, Any],
    status: int,
    kind: str | None,
    code: str,
    param: str,
) -> None:
    person = voice.person(tier)
    answer = await say(voice, person, **body)
    found = error(answer)
    assert (answer.status_code, found["code"]) == (status, code), answer.text
    assert kind in {None, found["type"]}
    assert found["param"] == param
    assert (answer.headers.get("x-should-retry") == "false") == (status == 402)
    assert person.served() == []


@pytest.mark.parametrize("format_", ["aac", "flac"])
async def test_formats_that_the_vendor_does_not_make_name_those_that_it_makes(
    voice: Voice, format_: str
) -> None:
    answer = await say(voice, voice.person("enterprise"), response_format=format_)
    found = error(answer)
    assert (answer.status_code, found["param"]) == (400, "response_format")
    assert all(known in found["message"] for known in ("mp3", "opus", "pcm", "wav"))


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"input": "\\ud800"}'])
async def test_a_body_that_is_no_object(voice: Voice, body: bytes) -> None:
    answer = await voice.client.post(
        "/v1/audio/speech", content=body, headers=voice.person().headers
    )
    assert (answer.status_code, error(answer)["code"]) == (400, "unreadable_body")


async def test_who_is_not_signed_in(voice: Voice) -> None:
    answer = await voice.client.post("/v1/audio/speech", json={})
    assert (answer.status_code, error(answer)["type"]) == (401, "authentication_error")


@pytest.mark.parametrize(
    ("fault", "status", "kind", "code", "again"),
    [
        ("invalid_key", 403, "permission_error", "no_usable_key", False),
        ("quota", 429, "insufficient_quota", "vendor_quota_exhausted", False),
        ("plan_required", 403, "permission_error", "vendor_plan_required", False),
        ("bad_request", 400, "invalid_request_error", "speech_rejected", True),
        ("rate_limit", 429, "rate_limit_error", "vendor_rate_limited", True),
        ("overloaded", 503, "server_error", "vendor_overloaded", True),
        ("unusual_activity", 502, "server_error", "vendor_refused", True),
        ("server_error", 502, "server_error", "vendor_failed", True),
    ],
)
async def test_a_refusal_of_the_vendor(
    voice: Voice, fault: str, status: int, kind: str, code: str, again: bool
) -> None:
    person = voice.person()
    answer = await say(voice, person, f"Hello. [[sim:fault={fault}]]")
    found = error(answer)
    assert (answer.status_code, found["type"], found["code"]) == (status, kind, code)
    assert ("x-should-retry" in answer.headers) != again
    assert await voice.usage(person) == []


async def test_a_limit_names_itself(voice: Voice) -> None:
    person = voice.person("free")
    answers = await asyncio.gather(*(say(voice, person) for _ in range(6)))
    (refused,) = [answer for answer in answers if answer.status_code == 429]
    found = error(refused)
    assert (found["type"], found["code"], found["upgrade_tier"]) == (
        "rate_limit_error",
        "limit_reached",
        "pro",
    )
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["retry-after"]
