"""ElevenLabs' interface under `/elevenlabs`: audio, money, limits and errors in its own form."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from tests.support.voice_service import Person, Voice

RACHEL = "21m00Tcm4TlvDq8ikWAM"
LIBRARY = "simulatedlibrary0001"
TTS = f"/elevenlabs/v1/text-to-speech/{RACHEL}"
DOORS = ("", "/stream", "/with-timestamps", "/stream/with-timestamps")
every = pytest.mark.parametrize("door", DOORS)


async def call(
    voice: Voice, person: Person, path: str, method: str = "POST", **parts: Any
) -> httpx.Response:
    """As the vendor's SDK: the token stands where it takes a key to be."""
    token = person.headers["authorization"].removeprefix("Bearer ")
    headers = {"xi-api-key": token, **parts.pop("headers", {})}
    return await voice.client.request(method, path, headers=headers, **parts)


async def say(
    voice: Voice, person: Person, door: str = "", text: str = "Hello there.", **body: Any
) -> httpx.Response:
    return await call(voice, person, TTS + door, json={"text": text, **body})


def detail(answer: httpx.Response) -> dict[str, Any]:
    """The error in the vendor's form."""
    assert answer.headers["content-type"] == "application/json", answer.text
    found = answer.json()["detail"]
    assert isinstance(found, dict), found
    assert found["message"]
    return found


@every
async def test_each_way_to_ask_is_spoken_and_charged_once(voice: Voice, door: str) -> None:
    ada = voice.person("pro")
    answer = await say(voice, ada, door)
    assert answer.status_code == 200, answer.text
    (served,) = ada.served()
    assert answer.headers["character-cost"] == "12" == str(served["usage"]["credits"])
    assert answer.headers["request-id"] == served["response_id"]
    assert '"elevenlabs.requests_per_minute";r=19' in answer.headers["ratelimit"]
    (usage,) = await voice.usage(ada)
    assert (usage["characters"], usage["source"], usage["outcome"]) == (12, "provider", "done")
    assert served["model"] == "eleven_multilingual_v2"


async def test_the_same_audio_whichever_way_it_comes(voice: Voice) -> None:
    ada = voice.person()
    whole, streamed, timed, lines = [await say(voice, ada, door) for door in DOORS]
    assert whole.headers["content-type"] == "audio/mpeg"
    assert streamed.content == whole.content
    document = timed.json()
    assert b64decode(document["audio_base64"]) == whole.content
    assert "".join(document["alignment"]["characters"]) == "Hello there."
    assert document["normalized_alignment"] is None
    pieces = [orjson.loads(line) for line in lines.content.splitlines()]
    assert len(pieces) > 1
    assert b"".join(b64decode(piece["audio_base64"]) for piece in pieces) == whole.content
    ends = [end for p in pieces for end in p["alignment"]["character_end_times_seconds"]]
    assert ends == document["alignment"]["character_end_times_seconds"] == sorted(ends)


async def test_without_wishes_it_speaks_as_the_tier_and_the_vendor_do(voice: Voice) -> None:
    person = voice.person("free")
    answer = await say(voice, person, "/stream")
    (served,) = person.served()
    assert served["model"] == "eleven_flash_v2_5"
    # The vendor's own default format, whatever ours is.
    assert answer.content.startswith(b"\xff\xfb")
    assert answer.headers["character-cost"] == "6"


async def test_a_long_text_tells_no_cost_before_it_is_known(voice: Voice) -> None:
    ada = voice.person("enterprise")
    answer = await say(voice, ada, text="A sentence of the story. " * 240)
    assert answer.status_code == 200
    assert "character-cost" not in answer.headers
    (usage,) = await voice.usage(ada)
    assert usage["characters"] == sum(one["usage"]["credits"] for one in ada.served())
    assert len(ada.served()) == 2


# --- refusals of ours


@every
@pytest.mark.parametrize(
    ("tier", "query", "body", "status", "word", "code"),
    [
        ("free", "?output_format=pcm_24000", {}, 402, "paid_plan_required", "format_not_in_tier"),
        ("free", "", {"model_id": "eleven_v3"}, 402, "paid_plan_required", None),
        ("free", "", {"voice_settings": {"use_speaker_boost": True}}, 402, None, None),
        ("pro", "?output_format=mp3_1_1", {}, 422, "unknown_format", "unknown_format"),
        ("pro", "", {"text": " "}, 422, "text_not_speakable", "text_not_speakable"),
        ("pro", "", {"text": "a\u0000"}, 422, "text_not_speakable", "text_not_speakable"),
    ],
)
async def test_a_rule_of_ours_is_told_in_the_vendors_form(
    voice: Voice,
    door: str,
    tier: str,
    query: str,
    body: dict[str, Any],
    status: int,
    word: str | None,
    code: str | None,
) -> None:
    person = voice.person(tier)
    answer = await say(voice, person, door + query, **body)
    assert answer.status_code == status, answer.text
    error = detail(answer)
    assert word in {None, error["status"]}
    assert code in {None, error["code"]}
    assert error["request_id"] == answer.headers["x-request-id"]
    assert (error.get("upgrade_tier") in {"pro", "enterprise"}) == (status == 402)
    assert person.served() == []


async def test_a_voice_that_is_none_or_not_included(voice: Voice) -> None:
    free = voice.person("free")
    for voice_id in ("nobodysvoice", "a" * 65, "a.b"):
        path = f"/elevenlabs/v1/text-to-speech/{voice_id}"
        answer = await call(voice, free, path, json={"text": "Hi."})
        error = detail(answer)
        assert (answer.status_code, error["status"]) == (404, "voice_not_found")
        assert error["param"] == "voice_id"
    path = f"/elevenlabs/v1/text-to-speech/{LIBRARY}"
    answer = await call(voice, free, path, json={"text": "Hi."})
    assert (answer.status_code, detail(answer)["code"]) == (402, "voice_not_in_tier")


BAD_BODIES: list[tuple[bytes, list[Any]]] = [
    (b'{"text": 7}', ["body", "text"]),
    (b"{}", ["body", "text"]),
    (b'{"text": "a", "seed": -1}', ["body", "seed"]),
    (b'{"text": "a", "seed": 1e400}', ["body"]),
    (b'{"text": "a", "language_code": "german!"}', ["body", "language_code"]),
    (b'{"text": "a", "model_id": "a/../b"}', ["body", "model_id"]),
    (b'{"text": "a", "voice_settings": {"speed": 9}}', ["body", "voice_settings", "speed"]),
    (b'{"text": "a", "voice_settings": []}', ["body", "voice_settings"]),
    (b'{"text": "a", "previous_request_ids": ["a","a","a","a"]}', ["body"]),
    (b'{"text": "a", "apply_text_normalization": "so"}', ["body"]),
    (b'{"text": "\\ud800"}', []),
    (b'{"text": "a", "x": ' + b"[" * 400 + b"]" * 400 + b"}", []),
    (b'{"text": "a", "x": "' + b"y" * 70_000 + b'"}', []),
    (b'{"text": "a", "x": ' + b"[" * 50_000, []),
    (b"[]", []),
    (b"null", []),
    (b"{", []),
    (b"\xff", []),
    (b"", []),
]


@pytest.mark.parametrize(("body", "place"), BAD_BODIES, ids=lambda value: str(value)[:40])
async def test_a_bad_body_is_told_as_the_vendor_tells_it(
    voice: Voice, body: bytes, place: list[Any]
) -> None:
    person = voice.person()
    answer = await call(voice, person, TTS, content=body)
    assert answer.status_code == 422, answer.text
    found = answer.json()["detail"]
    if isinstance(found, list):
        assert found[0]["loc"][: len(place)] == place
        assert found[0]["msg"]
        assert "input" not in found[0]
    else:
        assert found["code"] in {"unreadable_body", "bad_parameter"}
    assert person.served() == []


@pytest.mark.parametrize(
    "query",
    ["output_format=mp3%26x", "optimize_streaming_latency=5", "enable_logging=perhaps"],
)
async def test_a_bad_address_is_told_too(voice: Voice, query: str) -> None:
    answer = await call(voice, voice.person(), f"{TTS}?{query}", json={"text": "Hi."})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "query"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"xi-api-key": "no token"},
        {"authorization": "Basic abc"},
        {"authorization": "Bearer a", "xi-api-key": "b"},
    ],
)
@pytest.mark.parametrize("path", [TTS, "/elevenlabs/v1/voices", "/elevenlabs/v1/history"])
async def test_without_one_good_token_nothing_is_said(
    voice: Voice, headers: dict[str, str], path: str
) -> None:
    answer = await voice.client.request(
        "GET" if path != TTS else "POST", path, json={"text": 7}, headers=headers
    )
    error = detail(answer)
    assert (answer.status_code, error["status"]) == (401, "invalid_api_key")
    assert error["type"] == "authentication_error"


async def test_limits_are_told_so_that_the_sdk_waits(voice: Voice) -> None:
    person = voice.person("free")
    answers = [await say(voice, person) for _ in range(6)]
    refused = answers[-1]
    error = detail(refused)
    assert (refused.status_code, error["status"]) == (429, "rate_limit_exceeded")
    assert (error["code"], error["scope"]) == ("limit_reached", "elevenlabs.requests_per_minute")
    assert int(refused.headers["retry-after"]) == error["retry_after"]
    assert refused.headers["ratelimit"].startswith('"elevenlabs.requests_per_minute";r=0;')


async def test_the_months_characters_are_a_quota(voice: Voice) -> None:
    person = voice.person("free")
    answers = []
    for _ in range(5):
        answers.append(await say(voice, person, text="a" * 4_900, model_id="eleven_flash_v2_5"))
        await voice.until_settled(person)
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert detail(refused)["status"] in {"quota_exceeded", "rate_limit_exceeded"}


async def test_one_key_one_charge(voice: Voice) -> None:
    ada = voice.person()
    key = {"idempotency-key": "k"}
    first = await call(voice, ada, TTS, json={"text": "Hi."}, headers=key)
    await voice.until_settled(ada)
    again = await call(voice, ada, TTS, json={"text": "Hi."}, headers=key)
    other = await call(voice, ada, TTS, json={"text": "Ho."}, headers=key)
    assert first.status_code == 200
    assert (again.status_code, detail(again)["code"]) == (409, "already_spoken")
    assert (other.status_code, detail(other)["code"]) == (422, "idempotency_key_reused")
    assert len(await voice.usage(ada)) == 1


# --- the vendor's refusals and failures

REFUSALS = [
    ("invalid_key", 403, "no_usable_key", "no_usable_key"),
    ("missing_scope", 403, "no_usable_key", "no_usable_key"),
    ("quota", 402, "quota_exceeded", "vendor_quota_exhausted"),
    ("unusual_activity", 403, "vendor_refused", "vendor_refused"),
    ("plan_required", 402, "paid_plan_required", "vendor_plan_required"),
    ("bad_request", 422, "speech_rejected", "speech_rejected"),
    ("validation", 422, "speech_rejected", "speech_rejected"),
    ("voice_not_found", 404, "voice_not_found", "voice_not_found"),
    ("rate_limit", 429, "too_many_concurrent_requests", "vendor_rate_limited"),
    ("overloaded", 429, "system_busy", "vendor_overloaded"),
    ("server_error", 502, "vendor_failed", "vendor_failed"),
    ("connection_reset", 502, "vendor_failed", "vendor_failed"),
]


@pytest.mark.parametrize(("fault", "status", "word", "code"), REFUSALS)
async def test_a_refusal_of_the_vendor_is_told_in_its_words_and_not_charged(
    voice: Voice, fault: str, status: int, word: str, code: str
) -> None:
    person = voice.person("pro")
    for door in ("/stream", "/with-timestamps"):
        answer = await say(voice, person, door, f"Hello. [[sim:fault={fault}]]")
        error = detail(answer)
        assert (answer.status_code, error["status"], error["code"]) == (status, word, code)
        assert "sim" not in answer.text
    assert await voice.usage(person) == []
    again = await say(voice, person)
    assert ";r=19;" in again.headers["ratelimit"].split(", ")[0]


async def test_how_long_the_vendor_wants_its_sdk_to_wait(voice: Voice) -> None:
    answer = await say(voice, voice.person(), text="Hi. [[sim:fault=overloaded,retry_after=7]]")
    assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("door", ["", "/stream", "/stream/with-timestamps"])
async def test_a_stream_that_is_cut_breaks_and_is_charged(voice: Voice, door: str) -> None:
    ada = voice.person()
    with pytest.raises(httpx.RemoteProtocolError):
        await say(voice, ada, door, "A b c d e. [[sim:cut,at=2,chunks=8]]")
    (usage,) = await voice.usage(ada)
    assert (usage["outcome"], usage["source"]) == ("provider_failed", "provider")


async def test_a_document_that_is_cut_is_an_error_that_no_sdk_repeats(voice: Voice) -> None:
    ada = voice.person()
    answer = await say(voice, ada, "/with-timestamps", "A b c d e. [[sim:cut,at=2,chunks=5]]")
    # Audio was made and paid for: 424 is none of the statuses that the SDK tries again.
    assert (answer.status_code, detail(answer)["code"]) == (424, "vendor_failed")
    (usage,) = await voice.usage(ada)
    assert usage["outcome"] == "provider_failed"


async def test_too_large_a_body_is_told_before_anybody_knows_whose_form_it_has(
    voice: Voice,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"text": "a", "x": "'
        for _ in range(20):
            yield b"y" * (64 << 10)

    answer = await call(voice, voice.person(), TTS, content=pieces())
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
