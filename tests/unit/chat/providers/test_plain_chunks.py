"""The short ways through a stream's nearly always equal pieces lead where the long ones do."""

from __future__ import annotations

from typing import Any

import pytest

from services.chat.domain.frames import Frame, Text
from services.chat.providers._chat_completions import ChunkAnswer
from services.chat.providers._openai_errors import Refusals
from services.chat.providers._sse import DataLines
from shared.errors import ExpectedFailure

CHUNK = {"id": "c", "object": "chat.completion.chunk", "model": "m"}
FIRST = {**CHUNK, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}


def chunk(delta: Any, *, choice: Any = None, **parts: Any) -> dict[str, Any]:
    return {**CHUNK, "choices": [{"index": 0, "delta": delta, **(choice or {})}], **parts}


CHUNKS: dict[str, Any] = {
    "plain": chunk({"content": "word"}),
    "with its role": chunk({"role": "assistant", "content": "word"}),
    "with NUL": chunk({"content": "a\0b"}),
    "nothing": chunk({"content": ""}),
    "no text": chunk({"content": 7}),
    "no delta": chunk(None),
    "reasoning": chunk({"content": "a", "reasoning_content": "b"}),
    "refusal": chunk({"content": None, "refusal": "no"}),
    "last": chunk({"content": "a"}, choice={"finish_reason": "stop"}),
    "with usage": chunk({"content": "a"}, usage={"prompt_tokens": 3, "completion_tokens": 4}),
    "without usage": chunk({"content": "a"}, usage=None),
    "an error beside it": chunk({"content": "a"}, error={"message": "x", "type": "server_error"}),
    "an error instead": {**chunk({"content": "a"}), "object": "error", "message": "x"},
    "several": {**CHUNK, "choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]},
    "none": {**CHUNK, "choices": []},
    "a tool": chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f"}}]}),
    "a filter's note": chunk({"content": "a"}, choice={"content_filter_results": {}}),
}


def told(document: Any, *, whole: bool) -> tuple[list[Frame], str | None, Any]:
    answer = ChunkAnswer(Refusals("openai", "OpenAI"))
    list(answer.take(FIRST))
    try:
        frames = list(answer._read(document) if whole else answer.take(document))
    except ExpectedFailure as failure:
        return [], failure.code, None
    return frames, None, (answer._said, answer._usage, answer._finish, answer._refused)


@pytest.mark.parametrize("name", CHUNKS)
def test_a_chunk_means_the_same_either_way(name: str) -> None:
    assert told(CHUNKS[name], whole=False) == told(CHUNKS[name], whole=True)


def test_a_plain_chunk_is_its_text() -> None:
    assert told(CHUNKS["plain"], whole=False)[0] == [Text("word")]


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"a": 1}\n\n',
        b"data:{}\n\n",
        b"data: \n\n",
        b"data: {}\r\n\r\n",
        b"data: {}\n",
        b"data: {}\n\n\n",
        b": ping\n\n",
        b"event: a\ndata: {}\n\n",
        b"data: 1\n\ndata: 2\n\n",
        b"data:\n\n",
        b"\n\n",
        b"data: a\rb\n\n",
    ],
)
def test_an_event_in_one_piece_is_read_as_byte_by_byte(data: bytes) -> None:
    at_once, by_byte = DataLines("openai"), DataLines("openai")
    found = list(at_once.feed(data))
    pieces = [line for at in range(len(data)) for line in by_byte.feed(data[at : at + 1])]
    assert (found, at_once.end()) == (pieces, by_byte.end())
