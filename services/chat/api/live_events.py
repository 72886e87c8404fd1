"""A turn's events as clients see them, the same on every way they travel: a name and its data."""

from __future__ import annotations

from typing import Any

import orjson

from services.chat.api.message_body import message_document, to_json, usage_document
from services.chat.domain.turn import Hold
from services.chat.domain.turn_events import (
    Answered,
    Broken,
    CallsTool,
    Delta,
    FellBack,
    Started,
    Thinks,
    TurnEvent,
    UsageTold,
)
from shared.errors import ExpectedFailure
from shared.money import dollars_text


def live_event(event: TurnEvent) -> tuple[str, bytes]:
    """The event's name and its data as JSON."""
    if isinstance(event, Delta):
        return "delta", orjson.dumps({"text": event.text})
    name, data = _named(event)
    return name, to_json(data)


def _named(event: TurnEvent) -> tuple[str, dict[str, Any]]:
    if isinstance(event, Started):
        return "start", _start(event.hold) | {"messages_left_out": event.left_out}
    if isinstance(event, Thinks):
        return "thinking", {"text": event.text}
    if isinstance(event, CallsTool):
        return "tool_call", {
            "index": event.index,
            "id": event.id,
            "name": event.name,
            "arguments": event.arguments,
        }
    if isinstance(event, FellBack):
        return "fallback", {
            "provider": event.provider,
            "model": event.model,
            "fallback_from": event.fallback_from,
        }
    return _last(event)


def _last(event: TurnEvent) -> tuple[str, dict[str, Any]]:
    if isinstance(event, UsageTold):
        message = event.message
        return "usage", {
            "usage": usage_document(message),
            "cost_microusd": message.cost_microusd,
            "cost_usd": dollars_text(message.cost_microusd),
        }
    if isinstance(event, Answered):
        return "done", {
            "message": message_document(event.message),
            "finish_reason": event.finish_reason,
            "fallback_from": event.fallback_from,
        }
    assert isinstance(event, Broken)
    problem = _problem_of(event.failure)
    if event.message is None:
        return "error", problem
    return "interrupted", {
        "problem": problem,
        "message": message_document(event.message),
    }


def _start(hold: Hold) -> dict[str, Any]:
    return {
        "turn_id": hold.id,
        "session_id": hold.session_id,
        "question_id": hold.question_id,
        "message_id": hold.answer_id,
        "provider": hold.provider,
        "model": hold.model,
    }


def audio_trouble(failure: ExpectedFailure) -> tuple[str, bytes]:
    """Why there is no more audio, where voice itself can't tell."""
    return "audio_error", to_json({"problem": _problem_of(failure)})


def _problem_of(failure: ExpectedFailure) -> dict[str, Any]:
    # Here and not above: a worker, too, ends turns that fell silent, and seldom. It starts without
    # FastAPI.
    from shared.http.errors import problem_of

    return problem_of(failure)[1]


def as_sse(number: int, name: str, data: bytes) -> bytes:
    """One server-sent event. JSON holds no line breaks of its own."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, name.encode(), data)


def beside_sse(name: str, data: bytes) -> bytes:
    """A server-sent event that is none of the turn's own."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
