"""The voice socket, by the SDK and message by message."""

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.simulator.process import RunningSimulator

pytestmark = pytest.mark.filterwarnings(
    # The SDK asks websockets for the close code in the old way.
    "ignore:ConnectionClosed.code is deprecated:DeprecationWarning"
)

VOICE: Final = "21m00Tcm4TlvDq8ikWAM"
FLASH: Final = "eleven_flash_v2_5"


def by_plain_socket(client: ElevenLabs, simulator: RunningSimulator) -> ElevenLabs:
    """The SDK speaks to TLS alone unless told otherwise."""
    client.text_to_speech._ws_base_url = simulator.elevenlabs.replace("http", "ws")
    return client


def words() -> Iterator[str]:
    yield "Hello there, "
    yield "this is a text that comes in parts. "
    yield "And it goes on for a while."


def test_the_sdk_hears_speech(
    elevenlabs: ElevenLabs, simulator: RunningSimulator, key: str
) -> None:
    client = by_plain_socket(elevenlabs, simulator)
    audio = b"".join(client.text_to_speech.convert_realtime(VOICE, text=words(), model_id=FLASH))
    assert audio.startswith(b"\xff\xfb")
    (served,) = simulator.served(key=key)
    assert served["outcome"] == "completed"
    # The SDK puts a space after every comma and full stop.
    assert served["usage"]["characters"] >= 75
    assert served["model"] == FLASH


def test_the_sdk_raises_what_goes_wrong(
    elevenlabs: ElevenLabs, simulator: RunningSimulator
) -> None:
    client = by_plain_socket(elevenlabs, simulator)
    with pytest.raises(ApiError) as refused:
        list(
            client.text_to_speech.convert_realtime(
                VOICE, text=iter(["hi [[sim:fault=quota]] "]), model_id=FLASH
            )
        )
    assert refused.value.status_code == 1008


def dial(simulator: RunningSimulator, key: str | None, **query: str) -> connect:
    url = f"{simulator.elevenlabs.replace('http', 'ws')}/v1/text-to-speech/{VOICE}/stream-input"
    headers = {"xi-api-key": key} if key else {}
    return connect(
        f"{url}?{urlencode({'model_id': FLASH, **query})}",
        additional_headers=headers,
        proxy=None,
    )


async def say(socket: ClientConnection, text: str, **extra: Any) -> None:
    await socket.send(json.dumps({"text": text, **extra}))


async def hear(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 5))
    return message


async def hear_all(socket: ClientConnection) -> list[dict[str, Any]]:
    return [json.loads(message) async for message in socket]


async def test_text_is_gathered_flushed_and_finished(simulator: RunningSimulator, key: str) -> None:
    async with dial(simulator, key, output_format="pcm_16000") as socket:
        await say(socket, " ")
        await say(socket, "Hello ")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 0.1)
        await say(socket, "there ", flush=True)
        audio = await hear(socket)
        assert audio["isFinal"] is None
        assert "".join(audio["alignment"]["chars"]) == "Hello there "
        assert audio["alignment"]["charStartTimesMs"][:2] == [0, 40]
        assert len(base64.b64decode(audio["audio"])) == 12 * 640 * 2
        await say(socket, "Bye ")
        await say(socket, "")
        last = await hear_all(socket)
        assert last[-1] == {"isFinal": True, "audio": None}
        assert socket.close_code == 1000
    (served,) = simulator.served(key=key)
    assert served["usage"] == {"characters": 16, "credits": 8}
    assert (served["chunks"], served["outcome"]) == (2, "completed")


async def test_the_newest_models_have_a_socket_of_their_own(
    simulator: RunningSimulator, key: str
) -> None:
    url = f"{simulator.elevenlabs.replace('http', 'ws')}/v1/text-to-dialogue/stream-input"
    query = urlencode({"model_id": "eleven_v3", "sync_alignment": "true"})
    turn = {"text": "Hello there. ", "voice_id": VOICE, "new_turn": False}
    headers = {"xi-api-key": key}
    async with connect(f"{url}?{query}", additional_headers=headers, proxy=None) as socket:
        await socket.send(json.dumps({"voices": [VOICE], "voice_settings": {"stability": 0.5}}))
        await socket.send(json.dumps({"keep_alive": True}))
        await socket.send(json.dumps({"inputs": [turn]}))
        await socket.send(json.dumps({"flush": True}))
        audio = await hear(socket)
        assert set(audio) == {"audio", "alignment", "normalized_alignment"}
        assert "".join(audio["alignment"]["characters"]) == "Hello there. "
        assert await hear(socket) == {"is_final_audio_for_turn": True}
        await socket.send(json.dumps({"inputs": [{**turn, "text": "Bye. "}]}))
        await socket.send(json.dumps({"close_socket": True}))
        last = await hear_all(socket)
        assert (last[-1], socket.close_code) == ({"is_final": True}, 1000)
    (served,) = simulator.served(key=key)
    assert served["usage"]["characters"] == 18


@pytest.mark.parametrize(
    ("model", "first", "error"),
    [
        (FLASH, {"voices": [VOICE]}, "unsupported_model"),
        ("eleven_v3", {}, "invalid_message"),
        ("eleven_v3", {"voices": ["nobody"]}, "voice_not_found"),
    ],
)
async def test_the_newer_socket_refuses_in_its_own_words(
    simulator: RunningSimulator, key: str, model: str, first: dict[str, Any], error: str
) -> None:
    url = f"{simulator.elevenlabs.replace('http', 'ws')}/v1/text-to-dialogue/stream-input"
    headers = {"xi-api-key": key}
    async with connect(f"{url}?model_id={model}", additional_headers=headers, proxy=None) as socket:
        # A model is refused at once, maybe before this is sent.
        with suppress(ConnectionClosed):
            await socket.send(json.dumps(first))
        (refusal,) = await hear_all_until_closed(socket)
        assert refusal["error"] == error


async def test_enough_text_is_spoken_unasked(simulator: RunningSimulator, key: str) -> None:
    async with dial(simulator, key) as socket:
        await say(socket, " ", generation_config={"chunk_length_schedule": [60]})
        await say(socket, "x" * 60 + " ")
        assert (await hear(socket))["audio"]
        await say(socket, "y" * 50 + " ", try_trigger_generation=True)
        assert (await hear(socket))["audio"]
    async with dial(simulator, key, auto_mode="true") as socket:
        await say(socket, " ")
        await say(socket, "z ")
        assert (await hear(socket))["audio"]


@pytest.mark.parametrize("name", ["xi-api-key", "xi_api_key"])
async def test_the_key_may_come_in_the_first_message(
    simulator: RunningSimulator, key: str, name: str
) -> None:
    async with dial(simulator, None) as socket:
        await say(socket, " ", **{name: key})
        await say(socket, "hi ", flush=True)
        assert (await hear(socket))["audio"]
    assert simulator.served(key=key)[0]["model"] == FLASH


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (None, "needs_authorization"),
        ("sim-invalid-9", "invalid_api_key"),
        ("sim-noquota-9", "quota_exceeded"),
        ("sim-limited-9", "missing_permissions"),
    ],
)
async def test_a_bad_key_in_the_first_message_is_an_error_frame(
    simulator: RunningSimulator, key: str | None, error: str
) -> None:
    async with dial(simulator, None) as socket:
        await say(socket, " ", **({"xi-api-key": key} if key else {}))
        (told,) = await hear_all_until_closed(socket)
    assert (told["error"], told["code"]) == (error, 1008)
    assert socket.close_code == 1008


async def hear_all_until_closed(socket: ClientConnection) -> list[dict[str, Any]]:
    heard = []
    with pytest.raises(ConnectionClosed):
        while True:
            heard.append(await hear(socket))
    return heard


@pytest.mark.parametrize("key", ["sim-invalid-9", "sim-noquota-9"])
async def test_a_bad_key_in_the_header_is_refused_before_the_upgrade(
    simulator: RunningSimulator, key: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await dial(simulator, key)
    assert refused.value.response.status_code == 401


async def test_a_fault_by_order_meets_the_upgrade(simulator: RunningSimulator, key: str) -> None:
    simulator.add_fault("overloaded", vendor="elevenlabs", path="*/stream-input")
    with pytest.raises(InvalidStatus) as refused:
        await dial(simulator, key)
    assert refused.value.response.status_code == 429
    (served,) = simulator.served(key=key)
    assert (served["outcome"], served["status"]) == ("error", 429)


@pytest.mark.parametrize(
    ("query", "messages", "error"),
    [
        ({"model_id": "eleven_v3"}, [], "unsupported_model"),
        ({"inactivity_timeout": "0.05"}, [], "input_timeout_exceeded"),
        ({}, ["nonsense"], "invalid_message"),
        (
            {},
            ['{"text":" ","generation_config":{"chunk_length_schedule":[10]}}'],
            "invalid_chunk_length_schedule",
        ),
        ({}, ['{"text":" "}', '{"text":"[[sim:chunk=3]] "}'], "invalid_message"),
    ],
)
async def test_what_is_wrong_is_said_and_the_socket_closed(
    simulator: RunningSimulator, key: str, query: dict[str, str], messages: list[str], error: str
) -> None:
    async with dial(simulator, key, **query) as socket:
        for message in messages:
            await socket.send(message)
        (told,) = await hear_all_until_closed(socket)
    assert (told["error"], told["code"]) == (error, 1008)
    assert socket.close_code == 1008
    assert simulator.served(key=key)[0]["outcome"] == "error"


@pytest.mark.parametrize(
    ("kind", "code", "outcome"),
    [
        ("cut", 1006, "cut"),
        ("reset", 1006, "cut"),
        ("truncate", 1000, "cut"),
        ("stream_error", 1011, "error"),
    ],
)
async def test_accidents_happen_in_mid_speech(
    simulator: RunningSimulator, key: str, kind: str, code: int, outcome: str
) -> None:
    async with dial(simulator, key) as socket:
        await say(socket, " ")
        await say(socket, f"one two three [[sim:{kind},chunks=4,at=2]] ", flush=True)
        heard = await hear_all_until_closed(socket)
    assert len([message for message in heard if message.get("audio")]) == 2
    assert socket.close_code == code
    (served,) = simulator.served(key=key)
    assert (served["outcome"], served["chunks"]) == (outcome, 2)


async def test_a_client_that_leaves_is_noticed(simulator: RunningSimulator, key: str) -> None:
    async with dial(simulator, key) as socket:
        await say(socket, " ")
        await say(socket, "one two ", flush=True)
        await hear(socket)
    await asyncio.sleep(0.05)
    (served,) = simulator.served(key=key)
    assert served["outcome"] == "client_gone"
    assert served["usage"]["characters"] == 8


async def test_an_unknown_voice_has_no_socket(simulator: RunningSimulator, key: str) -> None:
    url = simulator.elevenlabs.replace("http", "ws")
    with pytest.raises(InvalidStatus) as refused:
        await connect(
            f"{url}/v1/text-to-speech/nobody/stream-input",
            additional_headers={"xi-api-key": key},
            proxy=None,
        )
    assert refused.value.response.status_code == 404
