"""Answers spoken while they are written, through the gateway: two services, two vendors, one
request."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.chat_replicas import Seen, events_of, next_events
from tests.support.devices import a_device
from tests.support.suite import Person, Suite, eventually

pytestmark = pytest.mark.e2e

RACHEL = "21m00Tcm4TlvDq8ikWAM"
SLOWLY = "[[sim:chunks=40,delay_ms=25]] One two. Three four. Five six. " + "And on. " * 12
ON_AND_ON = "[[sim:chunks=400,delay_ms=25]] On and on. " + "And on. " * 100


@pytest.fixture
async def listener(ada: Person) -> AsyncIterator[Person]:
    """A user whose tier includes speech in real time, with a key at both vendors."""
    await ada.store_key("elevenlabs")
    await ada.become("pro")
    yield ada


def body_of(content: str, **parts: Any) -> dict[str, Any]:
    return {"content": content, "stream": True, "speak": {"voice_id": RACHEL}, **parts}


async def records_of(person: Person, how_many: int) -> dict[str, dict[str, Any]]:
    """The ledger's lines of chat and of voice, once there are so many."""

    async def lines() -> list[dict[str, Any]]:
        answer = await person.client.get("/billing/usage/records")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])

    found = await eventually(lines, lambda seen: len(seen) >= how_many)
    assert len(found) == how_many
    return {line["operation"]: line for line in found}


def token_of(person: Person) -> str:
    return person.client.headers["authorization"].removeprefix("Bearer ")


async def is_back(suite: Suite, service: str) -> None:
    """For the tests that come after."""

    async def ready() -> int:
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                return (await client.get(suite.internal_url(service) + "/readyz")).status_code
            except httpx.HTTPError:
                return 0

    await eventually(ready, lambda status: status == 200, seconds=30)


async def test_an_answer_is_heard_while_it_is_written_and_billed_in_two_lines(
    suite: Suite, listener: Person
) -> None:
    path = f"/chat/sessions/{listener.session_id}/messages"
    answer = await listener.client.post(path, json=body_of(SLOWLY))
    assert answer.status_code == 200, answer.text
    events = events_of(answer.text)
    names = [event.name for event in events]
    assert names.index("audio") < names.index("done"), names
    audio = [event.data for event in events if event.name == "audio"]
    assert b64decode(audio[0]["audio_base64"]).startswith(b"\xff\xfb")
    assert [piece["seq"] for piece in audio] == list(range(1, len(audio) + 1))
    sentences = [piece["sentence"] for piece in audio]
    assert sentences == sorted(sentences)
    assert sentences[-1] >= 15
    (end,) = [event.data for event in events if event.name == "audio_end"]
    assert end["outcome"] == "done"

    lines = await records_of(listener, 2)
    request_id = answer.headers["x-request-id"]
    assert {line["request_id"] for line in lines.values()} == {request_id}
    assert lines["voice"]["characters"] == end["characters"]
    assert lines["voice"]["provider"] == "elevenlabs"
    assert lines["chat"]["provider"] == "openai"
    rows = suite.rows("voice", "select id, outcome from speech where request_id = %s", request_id)
    assert [(str(id_), outcome) for id_, outcome in rows] == [(end["speech_id"], "done")]


async def test_a_tier_without_it_is_refused_and_costs_nothing(ada: Person) -> None:
    await ada.store_key("elevenlabs")
    path = f"/chat/sessions/{ada.session_id}/messages"
    refused = await ada.client.post(path, json=body_of("Hello."))
    assert (refused.status_code, refused.json()["code"]) == (402, "realtime_not_in_tier")
    assert refused.json()["upgrade_tier"] == "pro"
    messages = await ada.client.get(path)
    assert messages.json()["data"] == []


async def test_stopping_stops_both(suite: Suite, listener: Person) -> None:
    path = f"/chat/sessions/{listener.session_id}"
    async with listener.client.stream(
        "POST", f"{path}/messages", json=body_of(ON_AND_ON)
    ) as answer:
        lines = answer.aiter_lines()
        await next_events(lines, "audio")
        assert (await listener.client.post(f"{path}/stop")).status_code == 200
        rest = [json.loads(line[6:]) async for line in lines if line.startswith("data: ")]
    assert "stopped" in [data.get("outcome") for data in rest]
    ledger = await records_of(listener, 2)
    assert {line["outcome"] for line in ledger.values()} == {"stopped"}


async def test_a_device_hears_it_and_a_revoked_key_silences_it(listener: Person) -> None:
    async with a_device(listener.suite.url, token_of(listener)) as device:
        await device.say("send", session_id=listener.session_id, **body_of(ON_AND_ON))
        heard = await device.until("audio")
        answer = await listener.client.delete("/keys/elevenlabs")
        assert answer.status_code in (200, 204), answer.text
        end = await device.until("audio_end")
        assert end["data"]["outcome"] == "stopped"
        await device.until("delta", turn_id=heard["turn_id"])
        await device.say("stop", session_id=listener.session_id)
        await device.until("stopped")


async def test_who_signs_out_hears_nothing_more(listener: Person) -> None:
    """One sign-in, one session: text and audio end with it."""
    async with a_device(listener.suite.url, token_of(listener)) as device:
        await device.say("send", session_id=listener.session_id, **body_of(ON_AND_ON))
        await device.until("audio")
        assert (await listener.client.post("/auth/logout")).status_code == 204
        assert await device.closed() == (4401, "session_ended")

    def outcomes(service: str, table: str) -> list[str | None]:
        rows = listener.suite.rows(
            service,
            f"select outcome from {table} where user_id = %s",
            listener.id,
        )
        return [row[0] for row in rows]

    async def both() -> tuple[list[str | None], list[str | None]]:
        return outcomes("chat", "generation"), outcomes("voice", "speech")

    text, audio = await eventually(both, lambda seen: None not in seen[0] + seen[1])
    assert text == ["stopped"]
    assert audio in (["stopped"], ["client_gone"]), "whichever of the two came first"


@pytest.mark.slow
async def test_voice_that_is_killed_leaves_the_text_and_one_line(
    suite: Suite, listener: Person
) -> None:
    path = f"/chat/sessions/{listener.session_id}/messages"
    async with listener.client.stream("POST", path, json=body_of(SLOWLY)) as answer:
        lines = answer.aiter_lines()
        seen: list[Seen] = await next_events(lines, "audio")
        suite.kill("voice")
        seen += await next_events(lines, "done")
    (error,) = [event.data for event in seen if event.name == "audio_error"]
    assert (error["problem"]["status"], error["problem"]["code"]) == (503, "dependency_unavailable")
    request_id = answer.headers["x-request-id"]

    async def settled() -> list[Any]:
        return suite.rows("voice", "select outcome from speech where request_id = %s", request_id)

    # Its lease, and three looks of the sweeper.
    await eventually(settled, lambda rows: rows == [("replica_lost",)], seconds=90)
    ledger = await records_of(listener, 2)
    assert ledger["voice"]["outcome"] == "replica_lost"
    assert ledger["chat"]["outcome"] == "done"
    await is_back(suite, "voice")


async def test_chat_that_is_killed_is_a_hearer_who_left(suite: Suite, listener: Person) -> None:
    path = f"/chat/sessions/{listener.session_id}/messages"
    request_id = ""
    with pytest.raises(httpx.RemoteProtocolError):
        async with listener.client.stream("POST", path, json=body_of(ON_AND_ON)) as answer:
            request_id = answer.headers["x-request-id"]
            lines = answer.aiter_lines()
            await next_events(lines, "audio")
            suite.kill("chat")
            async with asyncio.timeout(10):
                await next_events(lines, "done")

    async def settled() -> list[Any]:
        return suite.rows("voice", "select outcome from speech where request_id = %s", request_id)

    await eventually(settled, lambda rows: rows == [("client_gone",)], seconds=20)
    await is_back(suite, "chat")
