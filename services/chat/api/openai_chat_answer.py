"""An answer as Chat Completions tell it, whole and in pieces.

Wire format: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from services.chat.api.openai_errors import error_document
from services.chat.domain.content import ToolCall
from services.chat.domain.conversation import Message
from services.chat.domain.turn import Hold
from services.chat.domain.turn_events import (
    Answered,
    Broken,
    CallsTool,
    Delta,
    FellBack,
    Started,
    TurnEvent,
)

# What ended otherwise is there in part, as after `length`: with `stop` it would look whole.
_REASONS = {"stop": "stop", "tool_calls": "tool_calls", "content_filter": "content_filter"}
_IN_PART = "length"
_DONE = b"data: [DONE]\n\n"


def completion_id(hold: Hold) -> str:
    """The id of a turn's answer."""
    return f"chatcmpl-{hold.id.hex}"


def completion(hold: Hold, answered: Answered) -> dict[str, Any]:
    """A `chat.completion`."""
    message = answered.message
    return {
        "id": completion_id(hold),
        "object": "chat.completion",
        "created": int(hold.created_at.timestamp()),
        "model": message.model or hold.model,
        "choices": [
            {
                "index": 0,
                "message": _message(message.content, answered.tool_calls),
                "logprobs": None,
                "finish_reason": _REASONS.get(answered.finish_reason, _IN_PART),
            }
        ],
        "usage": usage_of(message),
    }


def _message(text: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text or (None if calls else ""),
        "refusal": None,
    }
    if calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
    return message


def usage_of(message: Message) -> dict[str, Any]:
    """Token counts; the details are parts of the totals."""
    usage: Mapping[str, Any] = message.usage or {}
    return {
        "prompt_tokens": usage.get("input_tokens", 0),
        "completion_tokens": usage.get("output_tokens", 0),
        "total_tokens": usage.get("total_tokens", 0),
        "prompt_tokens_details": {
            "cached_tokens": usage.get("cache_read_tokens", 0),
            "cache_write_tokens": usage.get("cache_write_tokens", 0),
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.get("output_reasoning_tokens", 0),
        },
    }


class ChunkWriter:
    """Writes a turn's events as `chat.completion.chunk`s. A piece of text costs one encoding of
    that text: what stands around it is written once."""

    def __init__(self, hold: Hold, *, with_usage: bool) -> None:
        self._hold = hold
        self._with_usage = with_usage
        self._head = b""
        self._before = b""
        self._frame(hold.model)

    def _frame(self, model: str) -> None:
        head = orjson.dumps(
            {
                "id": completion_id(self._hold),
                "object": "chat.completion.chunk",
                "created": int(self._hold.created_at.timestamp()),
                "model": model,
            }
        )
        self._head = b"data: " + head[:-1]
        self._before = self._head + b',"choices":[{"index":0,"delta":{"content":'
        self._after = b'},"logprobs":null,"finish_reason":null}]' + self._no_usage + b"}\n\n"

    @property
    def _no_usage(self) -> bytes:
        return b',"usage":null' if self._with_usage else b""

    def write(self, event: TurnEvent) -> bytes:
        """The event's bytes; none for what has no place in this wire."""
        if isinstance(event, Delta):
            return self._before + orjson.dumps(event.text) + self._after
        if isinstance(event, CallsTool):
            return self._chunk({"tool_calls": [_tool_delta(event)]})
        if isinstance(event, Started):
            return self._chunk({"role": "assistant", "content": ""})
        if isinstance(event, FellBack):
            self._frame(event.model)
        elif isinstance(event, Answered):
            return self._end(event)
        elif isinstance(event, Broken):
            return b"data: " + orjson.dumps(error_document(event.failure)) + b"\n\n"
        return b""

    def _end(self, event: Answered) -> bytes:
        last = self._chunk({}, _REASONS.get(event.finish_reason, _IN_PART))
        if self._with_usage:
            usage = orjson.dumps(usage_of(event.message))
            last += self._head + b',"choices":[],"usage":' + usage + b"}\n\n"
        return last + _DONE

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        choices = orjson.dumps([choice])
        return self._head + b',"choices":' + choices + self._no_usage + b"}\n\n"


def _tool_delta(event: CallsTool) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": event.arguments}
    delta: dict[str, Any] = {"index": event.index, "function": function}
    if event.name is not None:
        delta |= {"id": event.id, "type": "function"}
        function["name"] = event.name
    return delta
