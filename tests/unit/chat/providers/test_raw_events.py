"""Streams that are passed through: cut at whole events, unchanged, and without what may echo."""

from __future__ import annotations

import pytest

from services.chat.domain.frames import Ended, Text
from services.chat.providers import chat_wires
from services.chat.providers._calling import _heard_all
from services.chat.providers._events import WholeEvents
from shared.vendors.failures import VendorFailed

SECRET = b"sk-proj-0123456789abcdefghij"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_however_it_is_cut_whole_events_come_out_unchanged(end: bytes, size: int) -> None:
    whole = [
        b"data: one" + end,
        "data: naïve 漢字\u2028".encode() + end,
        b"event: x\ndata: 3" + end,
    ]
    body = b"".join(whole) + b"data: torn"
    events = WholeEvents("openai")
    found = [e for i in range(0, len(body), size) for e in events.feed(body[i : i + size])]
    assert found == whole
    assert events.rest() == b"data: torn"
    assert events.rest() == b""


def test_an_event_without_an_end_does_not_fill_the_memory() -> None:
    events = WholeEvents("openai")
    with pytest.raises(VendorFailed):
        for _ in range(10):
            events.feed(b"x" * (1 << 20))


CHUNK = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"text":"hi"}}\n\n'
)
PART = b'data: {"candidates":[{"content":{"parts":[{"text":"hi"}]}}]}\r\n\r\n'
SAID = (
    b"event: response.output_text.delta\n"
    b'data: {"type":"response.output_text.delta","delta":"hi"}\n\n'
)


@pytest.mark.parametrize(
    ("provider", "path", "good", "bad"),
    [
        ("openai", "/v1/chat/completions", CHUNK, b'data: {"error":{"message":"%b"}}\n\n'),
        (
            "openai",
            "/v1/responses",
            SAID,
            b'event: error\ndata: {"type":"error","code":"x","message":"%b","error":null}\n\n',
        ),
        (
            "openai",
            "/v1/responses",
            SAID,
            b'data: {"type":"response.failed","response":{"error":{"message":"%b"}}}\n\n',
        ),
        (
            "anthropic",
            "/v1/messages",
            DELTA,
            b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"%b"}}\n\n',
        ),
        (
            "gemini",
            "/v1/models/m:streamGenerateContent",
            PART,
            b'data: {"error":{"message":"%b"}}\r\n\r\n',
        ),
    ],
)
def test_an_event_that_tells_a_failure_is_held_back(
    provider: str, path: str, good: bytes, bad: bytes
) -> None:
    for first in ([], [good]):
        reader = chat_wires[provider].raw_reader(path, streamed=True)
        piece, failure = _heard_all(reader, [*first, bad % SECRET, good])
        assert failure is not None
        assert piece.data == b"".join(first)
        assert [f.text for f in piece.frames if isinstance(f, Text)] == ["hi"] * len(first)


def test_an_answer_that_speaks_of_errors_is_none() -> None:
    reader = chat_wires["openai"].raw_reader("/v1/chat/completions", streamed=True)
    quoted = CHUNK.replace(b'"hi"', b'"the \\"error\\" is yours"')
    last = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    piece, failure = _heard_all(reader, [quoted, last, b"data: [DONE]\n\n"])
    assert failure is None
    assert piece.data == quoted + last + b"data: [DONE]\n\n"
    assert any(isinstance(frame, Ended) for frame in reader.end())
