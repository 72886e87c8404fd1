"""What vendors seldom say: it is read, and paid for, like the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from services.chat.domain.frames import Ended, Frame, Text, Thinking, ToolCallPiece
from services.chat.domain.usage import Usage
from services.chat.providers import _reading
from services.chat.providers._chat_completions import ChunkAnswer
from services.chat.providers._openai_errors import Refusals
from services.chat.providers._reading import DocumentReader
from services.chat.providers._responses import EventAnswer
from services.chat.providers._sse import DataLines
from services.chat.providers.anthropic import stream_reader, whole_reader
from services.chat.providers.gemini import stream_reader as gemini_reader
from shared.vendors.failures import VendorFailed, VendorOverloaded
from tests.support.wires import read, the_end, told, whole

REFUSALS = Refusals("openai", "OpenAI")
START = {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 7}}}
ERROR = {"type": "error", "error": {"type": "overloaded_error"}}
STOP = {"type": "message_stop"}


def data(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events)


def block(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": {"type": kind, **fields}}


def changed(usage: dict[str, int], **delta: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": delta, "usage": usage}


def of_openai(answer: Any, *events: dict[str, Any]) -> list[Frame]:
    return whole(DocumentReader("openai", DataLines("openai"), answer), data(*events))


@pytest.mark.parametrize("kind", ["redacted_thinking", "compaction"])
def test_work_that_shows_nothing_is_charged_when_it_fails(kind: str) -> None:
    _, failure = read(stream_reader(), [data(START, block(kind, data="b3BhcXVl"), ERROR)])
    assert type(failure) is VendorFailed
    assert failure.billed


def test_a_call_without_an_id_gets_one() -> None:
    frames = whole(
        stream_reader(),
        data(START, block("tool_use", name="look"), changed({}, stop_reason="tool_use"), STOP),
    )
    (call,) = [frame for frame in frames if isinstance(frame, ToolCallPiece)]
    assert (call.id, call.name) == ("toolu_0", "look")


def test_a_later_count_does_not_undo_why_it_ended() -> None:
    events = [
        START,
        changed({"output_tokens": 3}, stop_reason="max_tokens"),
        changed({"output_tokens": 5}),
    ]
    assert the_end(whole(stream_reader(), data(*events, STOP))) == Ended(
        "length", Usage(7, output_tokens=5)
    )


def test_responses_that_show_all_of_their_thinking() -> None:
    frames = of_openai(
        EventAnswer(REFUSALS),
        {"type": "response.reasoning_text.delta", "delta": "Hm."},
        {"type": "response.reasoning_text.delta", "delta": ""},
        {"type": "response.output_text.delta", "delta": ""},
        {"type": "response.completed", "response": {"status": "completed"}},
    )
    assert told(frames) == ("", "Hm.", [])
    assert not [f for f in frames if isinstance(f, Text | Thinking) and not f.text]


def test_tools_that_take_no_json_are_called_in_pieces_too() -> None:
    place = {"output_index": 0}
    item = {"type": "custom_tool_call", "call_id": "call_1", "name": "run", "input": ""}
    delta = {"type": "response.custom_tool_call_input.delta", **place}
    frames = of_openai(
        EventAnswer(REFUSALS),
        {"type": "response.output_item.added", "item": item, **place},
        {"delta": "ls", **delta},
        {"delta": " -l", **delta},
        {"type": "response.completed", "response": {"status": "completed"}},
    )
    assert [f.arguments for f in frames if isinstance(f, ToolCallPiece)] == ["", "ls", " -l"]

    call = {"index": 0, "id": "call_1", "custom": {"name": "run", "input": "ls"}}
    chunk = {"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    assert told(of_openai(ChunkAnswer(REFUSALS), chunk))[2] == [("run", "ls")]


def test_an_error_that_comes_alone_is_told_at_once() -> None:
    reader = stream_reader()
    with pytest.raises(VendorOverloaded):
        reader.feed(data(ERROR))


def test_a_whole_answer_too_large_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reading, "_LARGEST_ANSWER", 10)
    _, failure = read(whole_reader(), [b"{" * 10, b"{"])
    assert type(failure) is VendorFailed


@pytest.mark.parametrize("rest", [b": a comment", b"event: message_stop", b"\n", b"id: 1"])
def test_what_a_stream_ends_with_is_no_event_unless_it_is_data(rest: bytes) -> None:
    lines = DataLines("openai")
    assert lines.feed(b"data: {}\n\n" + rest) == [b"{}"]
    assert lines.end() == []


@pytest.mark.parametrize("said", ['"', "\\", '\\"{', '"}]'])
@pytest.mark.parametrize("framed", [lambda text: b"[" + text + b"]", lambda text: text])
def test_what_is_escaped_ends_nothing_wherever_it_is_cut(
    said: str, framed: Callable[[bytes], bytes]
) -> None:
    parts = {"content": {"parts": [{"text": said}]}, "finishReason": "STOP"}
    document = framed(orjson.dumps({"candidates": [parts]}))
    frames, failure = read(gemini_reader(), [bytes([byte]) for byte in document])
    assert failure is None
    assert told(frames)[0] == said


def test_a_failure_of_gemini_after_its_first_words_is_geminis() -> None:
    words = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}}]}
    _, failure = read(gemini_reader(), [data(words, {"error": {"code": 500}})])
    assert isinstance(failure, VendorFailed)
    assert failure.facts["provider"] == "gemini"
