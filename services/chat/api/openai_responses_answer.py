"""An answer as the Responses interface tells it, whole and in events.

Wire format: https://platform.openai.com/docs/api-reference/responses-streaming
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

_COMPLETE = frozenset({"stop", "tool_calls"})
# The wire has no third word for what ended too early.
_INCOMPLETE = {"content_filter": "content_filter"}
_IN_PART = "max_output_tokens"


class Response:
    """The `response` object of a turn, in every state it passes through."""

    def __init__(self, hold: Hold, echoed: Mapping[str, Any]) -> None:
        self._hold = hold
        self._echoed = echoed
        self.model = hold.model

    def begun(self) -> dict[str, Any]:
        """While it is being written."""
        return self._object("in_progress", [], None, None)

    def ended(self, answered: Answered) -> dict[str, Any]:
        """Complete, or incomplete and why."""
        message = answered.message
        self.model = message.model or self.model
        ended = answered.finish_reason
        reason = None if ended in _COMPLETE else _INCOMPLETE.get(ended, _IN_PART)
        return self._object(
            "incomplete" if reason else "completed",
            output_of(self._hold, message, answered.tool_calls),
            usage_of(message),
            {"reason": reason} if reason else None,
        )

    def failed(self, broken: Broken) -> dict[str, Any]:
        """Broken off."""
        error = error_document(broken.failure)["error"]
        body = self._object("failed", [], None, None)
        return body | {"error": {"code": error["code"], "message": error["message"]}}

    def _object(
        self,
        status: str,
        output: Sequence[Mapping[str, Any]],
        usage: Mapping[str, Any] | None,
        incomplete: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        return {
            "id": f"resp_{self._hold.id.hex}",
            "object": "response",
            "created_at": int(self._hold.created_at.timestamp()),
            "status": status,
            "model": self.model,
            "output": output,
            "error": None,
            "incomplete_details": incomplete,
            "usage": usage,
            "store": False,
            "previous_response_id": None,
            **self._echoed,
        }


def output_of(hold: Hold, message: Message, calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """The items: reasoning to give back, the text, and the calls."""
    items = [dict(block) for block in _own_thoughts(message) if block.get("type") == "reasoning"]
    if message.content:
        items.append(text_item(hold, message.content, "completed") | _phase_of(message))
    items += [call_item(hold, i, call, "completed") for i, call in enumerate(calls)]
    return items


def _own_thoughts(message: Message) -> list[Mapping[str, Any]]:
    """Another vendor's reasoning has no form here."""
    return [thought.block for thought in message.thoughts if thought.provider == "openai"]


def _phase_of(message: Message) -> dict[str, Any]:
    """Of what phase the text is, where the vendor says so: it wants that back with the text."""
    phases = [block["phase"] for block in _own_thoughts(message) if block.get("type") == "message"]
    return {"phase": phases[-1]} if phases else {}


def text_item(hold: Hold, text: str | None, status: str) -> dict[str, Any]:
    """The message item; without a text it is only beginning."""
    return {
        "id": f"msg_{hold.answer_id.hex}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [] if text is None else [text_part(text)],
    }


def text_part(text: str) -> dict[str, Any]:
    """The only content part there is."""
    return {"type": "output_text", "text": text, "annotations": []}


def call_item(hold: Hold, index: int, call: ToolCall, status: str) -> dict[str, Any]:
    """A function call."""
    return {
        "id": f"fc_{hold.answer_id.hex}_{index}",
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


def usage_of(message: Message) -> dict[str, Any]:
    """Token counts; the details are parts of the totals."""
    usage: Mapping[str, Any] = message.usage or {}
    return {
        "input_tokens": usage.get("input_tokens", 0),
        "input_tokens_details": {
            "cached_tokens": usage.get("cache_read_tokens", 0),
            "cache_write_tokens": usage.get("cache_write_tokens", 0),
        },
        "output_tokens": usage.get("output_tokens", 0),
        "output_tokens_details": {
            "reasoning_tokens": usage.get("output_reasoning_tokens", 0),
        },
        "total_tokens": usage.get("total_tokens", 0),
    }


class EventWriter:
    """Writes a turn's events as Responses events, numbered, each item opened and closed."""

    def __init__(self, hold: Hold, echoed: Mapping[str, Any]) -> None:
        self._hold = hold
        self._response = Response(hold, echoed)
        self._number = 0
        self._index = -1  # of the item that is open
        self._text: list[str] | None = None
        self._calls: dict[int, _OpenCall] = {}

    def write(self, event: TurnEvent) -> bytes:
        """The event's bytes; none for what has no place in this wire."""
        if isinstance(event, Delta):
            return self._open_text() + self._add_text(event.text)
        if isinstance(event, CallsTool):
            return self._add_call(event)
        if isinstance(event, Started):
            begun = self._response.begun()
            created = self._event("response.created", {"response": begun})
            return created + self._event("response.in_progress", {"response": begun})
        if isinstance(event, FellBack):
            self._response.model = event.model
        elif isinstance(event, Answered):
            whole = self._response.ended(event)
            # In this order, since events are numbered as they are made.
            return self._close_all(event.message) + self._event(
                f"response.{whole['status']}", {"response": whole}
            )
        elif isinstance(event, Broken):
            return self._event("response.failed", {"response": self._response.failed(event)})
        return b""

    def _open_text(self) -> bytes:
        if self._text is not None:
            return b""
        self._text = []
        self._index += 1
        self._text_index = self._index
        item = text_item(self._hold, None, "in_progress")
        added = self._event(
            "response.output_item.added", {"output_index": self._index, "item": item}
        )
        return added + self._event("response.content_part.added", self._part(text_part("")))

    def _add_text(self, text: str) -> bytes:
        assert self._text is not None
        self._text.append(text)
        return self._event("response.output_text.delta", self._place() | {"delta": text})

    def _close_text(self, message: Message) -> bytes:
        if self._text is None:
            return b""
        text = "".join(self._text)
        item = text_item(self._hold, text, "completed") | _phase_of(message)
        return (
            self._event("response.output_text.done", self._place() | {"text": text})
            + self._event("response.content_part.done", self._part(text_part(text)))
            + self._event(
                "response.output_item.done", {"output_index": self._text_index, "item": item}
            )
        )

    def _place(self) -> dict[str, Any]:
        return {
            "item_id": f"msg_{self._hold.answer_id.hex}",
            "output_index": self._text_index,
            "content_index": 0,
            "logprobs": [],
        }

    def _part(self, part: Mapping[str, Any]) -> dict[str, Any]:
        place = self._place()
        del place["logprobs"]
        return place | {"part": part}

    def _add_call(self, event: CallsTool) -> bytes:
        body = b""
        call = self._calls.get(event.index)
        if call is None:
            self._index += 1
            call = _OpenCall(self._index, event.index, event.id or "", event.name or "")
            self._calls[event.index] = call
            item = call_item(self._hold, call.number, call.whole(), "in_progress")
            body = self._event(
                "response.output_item.added", {"output_index": call.output_index, "item": item}
            )
        if event.arguments:
            call.arguments.append(event.arguments)
            place = {"item_id": self._call_id(call), "output_index": call.output_index}
            body += self._event(
                "response.function_call_arguments.delta", place | {"delta": event.arguments}
            )
        return body

    def _call_id(self, call: _OpenCall) -> str:
        return f"fc_{self._hold.answer_id.hex}_{call.number}"

    def _close_all(self, message: Message) -> bytes:
        body = self._close_text(message)
        for call in self._calls.values():
            whole = call.whole()
            place = {"item_id": self._call_id(call), "output_index": call.output_index}
            body += self._event(
                "response.function_call_arguments.done",
                place | {"name": whole.name, "arguments": whole.arguments},
            )
            item = call_item(self._hold, call.number, whole, "completed")
            body += self._event(
                "response.output_item.done", {"output_index": call.output_index, "item": item}
            )
        return body

    def _event(self, kind: str, data: Mapping[str, Any]) -> bytes:
        body = orjson.dumps({"type": kind, "sequence_number": self._number, **data})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)


class _OpenCall:
    """A function call while it is put together."""

    def __init__(self, output_index: int, number: int, id_: str, name: str) -> None:
        self.output_index = output_index
        self.number = number
        self.arguments: list[str] = []
        self._id = id_
        self._name = name

    def whole(self) -> ToolCall:
        return ToolCall(self._id, self._name, "".join(self.arguments))
