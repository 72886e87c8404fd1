"""Speech while it is written, through the gateway: `/voice/realtime` and ElevenLabs' own socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from websockets.exceptions import InvalidStatus

from tests.support.suite import Person, Suite, a_person, eventually
from tests.support.voice_sockets import RACHEL, at_realtime, at_stream_input

pytestmark = [
    pytest.mark.e2e,
    # The SDK asks websockets for the close code in the old way.
    pytest.mark.filterwarnings("ignore:ConnectionClosed.code is deprecated:DeprecationWarning"),
]

SLOWLY = "[[sim:chunks=50,delay_ms=50]] " + "and on " * 30


def token_of(person: Person) -> str:
    return person.client.headers["authorization"].removeprefix("Bearer ")


async def ledger(person: Person, lines: int) -> list[dict[str, Any]]:
    """The lines of voice, once there are so many."""

    async def look() -> list[dict[str, Any]]:
        answer = await person.client.get("/billing/usage/records?limit=100")
        assert answer.status_code == 200, answer.text
        records = answer.json()["data"]
        return [record for record in records if record["operation"] == "voice"]

    return await eventually(look, lambda seen: len(seen) == lines)


@pytest.fixture
async def speaker(suite: Suite) -> AsyncIterator[Person]:
    """A user of the pro tier with a key at the vendor of voices."""
    person = a_person(suite)
    await person.register()
    await person.become("pro")
    await person.store_key("elevenlabs")
    yield person
    await person.client.aclose()


async def test_two_devices_speak_one_is_interrupted_and_signing_out_closes(
    suite: Suite, speaker: Person
) -> None:
    elsewhere = a_person(suite)
    elsewhere.name, elsewhere.password = speaker.name, speaker.password
    await elsewhere.sign_in()
    async with (
        at_realtime(suite.url, token_of(speaker)) as one,
        at_realtime(suite.url, token_of(elsewhere)) as other,
    ):
        assert one.connection.subprotocol == "companion.v1"
        await one.utter("Hello there. ", "How are you?", audio="binary")
        await one.until("done")
        assert one.audio().startswith(b"\xff\xfb")
        await other.utter(SLOWLY)
        await other.until("audio")
        await other.say("stop")
        assert (await other.until("interrupted"))["data"]["usage"]["characters"] > 100
        await other.utter(SLOWLY)
        await other.until("audio")
        began = time.monotonic()
        assert (await elsewhere.client.post("/auth/logout")).status_code == 204
        assert await other.closed() == (4401, "session_ended")
        assert time.monotonic() - began < 3
        await one.utter("Still here.")
        await one.until("done")
    lines = await ledger(speaker, 4)
    assert sorted(line["outcome"] for line in lines) == ["done", "done", "stopped", "stopped"]
    assert len({line["event_id"] for line in lines}) == 4
    for process in ("gateway", "voice"):
        log = suite.log(process)
        assert token_of(speaker) not in log, process
        assert "Still here" not in log, process
    await elsewhere.client.aclose()


async def test_the_official_sdk_speaks_along(suite: Suite, speaker: Person) -> None:
    def words() -> Iterator[str]:
        yield "Hello there, "
        yield "this is a text that comes in parts. "
        yield "And it goes on for a while."

    def convert(token: str, *texts: str) -> bytes:
        client = ElevenLabs(api_key=token, base_url=f"{suite.url}/elevenlabs")
        # The SDK speaks to TLS alone unless told otherwise.
        client.text_to_speech._ws_base_url = f"{suite.url.replace('http', 'ws')}/elevenlabs"
        pieces = client.text_to_speech.convert_realtime(
            RACHEL, text=iter(texts or words()), model_id="eleven_flash_v2_5"
        )
        return b"".join(pieces)

    wish = {"name": "a tool", "scopes": ["voice"], "expires_in_days": 1}
    personal = (await speaker.client.post("/auth/tokens", json=wish)).json()["token"]
    for token in (token_of(speaker), personal):
        assert (await asyncio.to_thread(convert, token)).startswith(b"\xff\xfb")
    with pytest.raises(ApiError) as refused:
        await asyncio.to_thread(convert, personal, "hi [[sim:fault=invalid_key]] ")
    assert refused.value.status_code == 1008
    lines = await ledger(speaker, 2)
    assert {line["outcome"] for line in lines} == {"done"}


async def test_the_vendors_socket_takes_a_token_first_and_never_in_the_url(
    suite: Suite, speaker: Person
) -> None:
    query = "model_id=eleven_flash_v2_5"
    async with at_stream_input(suite.url, query=query) as client:
        await client.say(" ", **{"xi-api-key": token_of(speaker)})
        await client.say("Hello. ", flush=True)
        assert (await client.next())["audio"]
        await client.say("")
        messages, code = await client.rest()
        assert (messages[-1]["isFinal"], code) == (True, 1000)
    async with at_stream_input(suite.url, query=query) as client:
        await client.say(" ")
        (told,), code = await client.rest()
        assert (told["error"], code) == ("invalid_api_key", 1008)
    with pytest.raises(InvalidStatus) as refused:
        async with at_stream_input(suite.url, query=f"authorization={token_of(speaker)}"):
            pass
    assert refused.value.response.status_code == 401
