"""The bytes of streams, which the SDKs tidy away: odd frames, accidents, pace."""

import asyncio
import json
import time
from typing import Any, Final

import httpx
import pytest

from tests.support.simulator.process import RunningSimulator

VENDORS: Final = ("openai", "responses", "anthropic", "gemini", "elevenlabs")
END_MARKS: Final = {
    "openai": b"data: [DONE]",
    "responses": b"response.completed",
    "anthropic": b"message_stop",
    "gemini": b'"finishReason":"STOP"',
}


def order(vendor: str, key: str, text: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Path, headers and body of a streamed request."""
    said = [{"role": "user", "content": text}]
    bearer = {"authorization": f"Bearer {key}"}
    match vendor:
        case "openai":
            body: dict[str, Any] = {"model": "gpt-6-luna", "stream": True, "messages": said}
            return "/openai/v1/chat/completions", bearer, body
        case "responses":
            body = {"model": "gpt-6-luna", "stream": True, "input": text}
            return "/openai/v1/responses", bearer, body
        case "anthropic":
            headers = {"x-api-key": key, "anthropic-version": "2026-10-21"}
            body = {"model": "claude-haiku-5-5", "stream": True, "max_tokens": 99}
            return "/anthropic/v1/messages", headers, {**body, "messages": said}
        case "gemini":
            path = "/gemini/v1/models/gemini-3.8-flash:streamGenerateContent?alt=sse"
            return path, {"x-goog-api-key": key}, {"contents": [{"parts": [{"text": text}]}]}
        case _:
            path = "/elevenlabs/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM/stream"
            return path, {"xi-api-key": key}, {"text": text}


async def read(http: httpx.AsyncClient, vendor: str, key: str, text: str) -> bytes:
    """All bytes that arrived, also when the connection ended before the answer did."""
    path, headers, body = order(vendor, key, text)
    received = b""
    try:
        async with http.stream("POST", path, headers=headers, json=body) as response:
            async for part in response.aiter_raw():
                received += part
    except httpx.TransportError as broken:
        received += f"<{type(broken).__name__}>".encode()
    return received


async def outcome(simulator: RunningSimulator, key: str) -> dict[str, Any]:
    """The ledger's line, once the simulator knows how the request ended."""
    for _ in range(100):
        (served,) = simulator.served(key=key)
        if served["outcome"] != "running":
            return served
        await asyncio.sleep(0.01)
    raise AssertionError("The request never ended.")


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("kind", ["cut", "reset"])
async def test_a_cut_is_a_broken_connection(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str, vendor: str, kind: str
) -> None:
    received = await read(http, vendor, key, f"one two three four [[sim:{kind},at=2,chunks=6]]")
    assert received.endswith((b"<RemoteProtocolError>", b"<ReadError>"))
    if vendor != "elevenlabs":
        assert END_MARKS[vendor] not in received
        assert b'"said: "' in received
        assert b'"one "' not in received
    served = await outcome(simulator, key)
    assert (served["outcome"], served["chunks"], served["fault"]) == ("cut", 2, kind)
    if vendor != "elevenlabs":
        assert served["usage"]["output_tokens"] == 2


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_truncated_stream_ends_cleanly_without_its_end_mark(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str, vendor: str
) -> None:
    received = await read(http, vendor, key, "one two three [[sim:truncate,at=99]]")
    assert not received.endswith(b"Error>")
    if vendor != "elevenlabs":
        assert b'"three"' in received
        assert END_MARKS[vendor] not in received
    assert (await outcome(simulator, key))["outcome"] == "cut"


@pytest.mark.parametrize("vendor", VENDORS)
async def test_no_answer_at_all(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str, vendor: str
) -> None:
    for kind in ("connection_reset", "connection_close"):
        path, headers, body = order(vendor, key, f"hi [[sim:{kind}]]")
        with pytest.raises(httpx.TransportError):
            await http.post(path, headers=headers, json=body)
    assert [served["status"] for served in simulator.served(key=key)] == [0, 0]


@pytest.mark.parametrize(
    ("vendor", "kind", "told"),
    [
        ("openai", "stream_error", b'data: {"error":{"message":'),
        ("responses", "stream_error", b'data: {"type":"error","error":{'),
        ("responses", "stream_error_flat", b'data: {"type":"error","code":"server_error"'),
        ("responses", "stream_failed", b"event: response.failed"),
        ("anthropic", "stream_error", b'event: error\ndata: {"type":"error"'),
        ("gemini", "stream_error", b'data: {"error":{"code":503'),
        ("gemini", "stream_error_bare", b'\r\n\r\n{\r\n  "error": {\r\n    "code": 503'),
    ],
)
async def test_an_error_in_mid_stream(
    http: httpx.AsyncClient,
    simulator: RunningSimulator,
    key: str,
    vendor: str,
    kind: str,
    told: bytes,
) -> None:
    received = await read(http, vendor, key, f"one two three four [[sim:{kind}]]")
    assert told in received
    assert END_MARKS[vendor] not in received
    served = await outcome(simulator, key)
    assert (served["outcome"], served["status"]) == ("error", 200)


@pytest.mark.parametrize("vendor", VENDORS[:-1])
async def test_characters_are_split_across_chunks(
    http: httpx.AsyncClient, key: str, vendor: str
) -> None:
    path, headers, body = order(vendor, key, "漢字 🙂 [[sim:split,chunks=3]]")
    async with http.stream("POST", path, headers=headers, json=body) as response:
        parts = [part async for part in response.aiter_raw()]
    assert any(_is_torn(part) for part in parts)
    assert "🙂" in b"".join(parts).decode()


def _is_torn(part: bytes) -> bool:
    try:
        part.decode()
    except UnicodeDecodeError:
        return True
    return False


async def test_openai_sends_comments_and_unknown_keys(http: httpx.AsyncClient, key: str) -> None:
    received = await read(http, "openai", key, "hi [[sim:odd]]")
    assert received.startswith(b": ")
    assert b'"obfuscation":"' in received
    assert b"event:" not in received
    frames = [line[6:] for line in received.splitlines() if line.startswith(b"data: {")]
    assert all(json.loads(frame)["object"] == "chat.completion.chunk" for frame in frames)


async def test_anthropic_sends_pings_novelties_and_rising_usage(
    http: httpx.AsyncClient, key: str
) -> None:
    received = await read(http, "anthropic", key, "one two [[sim:odd]]")
    assert received.startswith(b"event: ping\n")
    assert b"event: content_block_novelty\n" in received
    deltas = [
        json.loads(line[6:])["usage"]["output_tokens"]
        for line in received.splitlines()
        if line.startswith(b'data: {"type":"message_delta"')
    ]
    assert deltas == [2, 4]


async def test_gemini_frames_end_with_crlf(http: httpx.AsyncClient, key: str) -> None:
    received = await read(http, "gemini", key, "hi [[sim:u2028]]")
    assert "\u2028" in received.decode()
    frames = received.removesuffix(b"\r\n\r\n").split(b"\r\n\r\n")
    chunks = [json.loads(frame.removeprefix(b"data: ")) for frame in frames]
    assert "finishReason" not in chunks[-2]["candidates"][0]
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


async def test_gemini_streams_an_array_without_sse(http: httpx.AsyncClient, key: str) -> None:
    path, headers, body = order("gemini", key, "hi")
    answer = await http.post(path.removesuffix("?alt=sse"), headers=headers, json=body)
    assert [len(chunk["candidates"]) for chunk in answer.json()] == [1, 1, 1, 1]
    body["contents"][0]["parts"][0]["text"] = "[[sim:fault=overloaded]]"
    refused = await http.post(path.removesuffix("?alt=sse"), headers=headers, json=body)
    assert refused.json()[0]["error"]["status"] == "UNAVAILABLE"


async def test_gemini_takes_both_spellings(http: httpx.AsyncClient, key: str) -> None:
    image = {"mime_type": "image/png", "data": "iVBORw0KGgo="}
    body = {
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "a b c"}, {"inline_data": image}]}],
        "generation_config": {"max_output_tokens": 3, "thinking_config": {"thinking_level": "low"}},
    }
    answer = await http.post(
        "/gemini/v1beta/models/gemini-3.8-flash:generateContent",
        headers={"x-goog-api-key": key},
        json=body,
    )
    assert answer.json()["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert answer.json()["usageMetadata"]["promptTokenCount"] == 2 + 3 + 85
    body["generation_confg"] = {}
    refused = await http.post(
        "/gemini/v1/models/gemini-3.8-flash:generateContent",
        headers={"x-goog-api-key": key},
        json=body,
    )
    assert 'Unknown name "generation_confg"' in refused.json()["error"]["message"]


async def test_timestamps_are_lines_of_json(http: httpx.AsyncClient, key: str) -> None:
    answer = await http.post(
        "/elevenlabs/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM/stream/with-timestamps",
        headers={"xi-api-key": key},
        json={"text": "one two three"},
    )
    lines = answer.content.decode().splitlines()
    assert [len(json.loads(line)["alignment"]["characters"]) for line in lines] == [4, 4, 5]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_the_pace_is_kept(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str, vendor: str
) -> None:
    started = time.monotonic()
    await read(http, vendor, key, "hi [[sim:chunks=11,delay_ms=10,first_ms=50]]")
    assert 0.15 <= time.monotonic() - started < 3
    assert (await outcome(simulator, key))["chunks"] == 11


@pytest.mark.parametrize("when", ["first_ms=5000", "delay_ms=5000", "stall", "stall,at=0"])
@pytest.mark.parametrize("vendor", ["openai", "elevenlabs"])
async def test_a_client_that_leaves_is_noticed(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str, vendor: str, when: str
) -> None:
    path, headers, body = order(vendor, key, f"one two three four [[sim:{when}]]")
    with pytest.raises(httpx.ReadTimeout):
        await http.post(path, headers=headers, json=body, timeout=0.1)
    served = await outcome(simulator, key)
    assert served["outcome"] == "client_gone"
    assert served["finished_at"] - served["started_at"] < 1


async def test_a_stall_can_end(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str
) -> None:
    received = await read(http, "openai", key, "one two [[sim:stall,stall_ms=50]]")
    assert received.endswith(b"data: [DONE]\n\n")
    served = await outcome(simulator, key)
    assert served["outcome"] == "completed"
    assert served["finished_at"] - served["started_at"] >= 0.05


@pytest.mark.parametrize("kind", ["cut", "reset", "truncate"])
async def test_a_whole_answer_can_break_too(http: httpx.AsyncClient, key: str, kind: str) -> None:
    path, headers, body = order("openai", key, f"hi [[sim:{kind},at=9]]")
    with pytest.raises(httpx.TransportError):
        await http.post(path, headers=headers, json={**body, "stream": False})


async def test_usage_can_be_missing(http: httpx.AsyncClient, key: str) -> None:
    path, headers, body = order("openai", key, "hi [[sim:nousage]]")
    options = {"stream_options": {"include_usage": True}}
    streamed = await http.post(path, headers=headers, json={**body, **options})
    assert b"prompt_tokens" not in streamed.content
    whole = await http.post(path, headers=headers, json={**body, "stream": False})
    assert "usage" not in whole.json()
