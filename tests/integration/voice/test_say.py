"""The hot route for speech says what the route behind it would say."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest

from shared.http.hot import HotRoutes
from tests.support.voice_service import Voice

JSON = {"content-type": "application/json"}
GOOD = b'{"text": "Hello there.", "voice_id": "21m00Tcm4TlvDq8ikWAM"}'


def with_(**parts: Any) -> bytes:
    return orjson.dumps({**orjson.loads(GOOD), **parts})


ODD: dict[str, tuple[bytes, dict[str, str]]] = {
    "no JSON": (b"{", JSON),
    "nothing": (b"", JSON),
    "no object": (b"[]", JSON),
    "too deep": (b"[" * 100_000, JSON),
    "no text": (b'{"voice_id": "21m00Tcm4TlvDq8ikWAM"}', JSON),
    "an empty text": (with_(text=" "), JSON),
    "half a character": (rb'{"text": "\ud800", "voice_id": "21m00Tcm4TlvDq8ikWAM"}', JSON),
    "an unknown field": (with_(colour="red"), JSON),
    "no number": (
        b'{"text": "a", "voice_id": "b", "settings": {"style": NaN}}',
        JSON,
    ),
    "several": (with_(text=1, seed=-1, settings={"style": 9}), JSON),
    "another type": (GOOD, {"content-type": "text/plain"}),
    "no type": (GOOD, {}),
    "a bad key": (GOOD, {**JSON, "idempotency-key": "a b"}),
    "a long key": (GOOD, {**JSON, "idempotency-key": "k" * 201}),
    "an empty key": (GOOD, {**JSON, "idempotency-key": ""}),
    "too long an accept": (GOOD, {**JSON, "accept": "a" * 501}),
    "too long a cache-control": (GOOD, {**JSON, "cache-control": "a" * 501}),
    "no such voice": (with_(voice_id="../x"), JSON),
    "no such format": (with_(format="mp3_1_1"), JSON),
    "a bad token": (GOOD, {**JSON, "authorization": "Bearer nonsense"}),
    "no bearer": (GOOD, {**JSON, "authorization": "Basic YTpi"}),
    "neither token nor JSON": (b"{", {**JSON, "authorization": ""}),
}


async def told(app: Any, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://voice") as client:
        answer = await client.post("/voice/speech", content=body, headers=headers)
    problem = answer.json()
    problem.pop("request_id")
    return answer.status_code, problem


@pytest.mark.parametrize("case", ODD)
async def test_what_is_out_of_order_is_told_as_before(voice: Voice, case: str) -> None:
    body, headers = ODD[case]
    hot = voice.process.public._app  # type: ignore[attr-defined]
    assert isinstance(hot, HotRoutes)
    headers = {**voice.person().headers, **headers}

    here = await told(hot, body, headers)
    behind = await told(hot._app, body, headers)

    assert here == behind
    assert 400 <= here[0] < 500


async def test_a_token_for_something_else_is_refused(voice: Voice) -> None:
    person = voice.person()
    headers = voice.surroundings.mint.headers(person.id, scope="keys")
    answer = await voice.say(person, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    assert await voice.speeches(person) == []


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
async def test_what_is_written_in_another_way_is_spoken_too(
    voice: Voice, content_type: str
) -> None:
    person = voice.person()
    headers = {**person.headers, "content-type": content_type}
    answer = await voice.client.post("/voice/speech", content=GOOD, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mpeg")
    assert answer.content
    (line,) = await voice.usage(person)
    assert line["characters"] == 12


async def test_a_body_that_comes_piece_by_piece_is_read_whole(voice: Voice) -> None:
    async def pieces() -> Any:
        for start in range(0, len(GOOD), 10):
            yield GOOD[start : start + 10]

    person = voice.person()
    headers = {**person.headers, **JSON}
    answer = await voice.client.post("/voice/speech", content=pieces(), headers=headers)
    assert answer.status_code == 200
    (line,) = await voice.usage(person)
    assert line["characters"] == 12


async def test_the_documentation_knows_the_operation(voice: Voice) -> None:
    document = (await voice.client.get("/openapi.json")).json()
    operation = document["paths"]["/voice/speech"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/SpeechBody"}
    assert {"200", "401", "402", "404", "409", "422", "429", "502"} <= operation["responses"].keys()
