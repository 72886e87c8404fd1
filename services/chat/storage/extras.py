"""What a message holds beside its text, as one JSON value: null for most messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from services.chat.domain.content import Thought, ToolCall, ToolResult
from services.chat.domain.conversation import Attachment
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Extras:
    """The parts, read."""

    tool_calls: Sequence[ToolCall] = ()
    tool_results: Sequence[ToolResult] = ()
    thoughts: Sequence[Thought] = ()
    attachments: Sequence[Attachment] = ()
    safety_ratings: Mapping[str, str] | None = None


NOTHING = Extras()


def to_extras(
    *,
    tool_calls: Sequence[ToolCall] = (),
    tool_results: Sequence[ToolResult] = (),
    thoughts: Sequence[Thought] = (),
    attachments: Sequence[Attachment] = (),
    safety_ratings: Mapping[str, str] | None = None,
) -> dict[str, Any] | None:
    """None when there is nothing."""
    if not (tool_calls or tool_results or thoughts or attachments or safety_ratings):
        return None
    parts: dict[str, Any] = {
        "tool_calls": [_call(call) for call in tool_calls],
        "tool_results": [_result(result) for result in tool_results],
        "thoughts": [{"provider": t.provider, "block": t.block} for t in thoughts],
        "attachments": [_attachment(attachment) for attachment in attachments],
        "safety_ratings": safety_ratings,
    }
    return {name: value for name, value in parts.items() if value} or None


def from_extras(value: Mapping[str, Any] | None) -> Extras:
    """Read what `to_extras` wrote."""
    if not value:
        return NOTHING
    return Extras(
        tool_calls=tuple(ToolCall(**call) for call in value.get("tool_calls", ())),
        tool_results=tuple(ToolResult(**result) for result in value.get("tool_results", ())),
        thoughts=tuple(Thought(t["provider"], t["block"]) for t in value.get("thoughts", ())),
        attachments=tuple(
            Attachment(UUID(a["id"]), a["media_type"], a["url"], a["size_bytes"])
            for a in value.get("attachments", ())
        ),
        safety_ratings=value.get("safety_ratings"),
    )


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "signature": call.signature,
    }


def _result(result: ToolResult) -> dict[str, Any]:
    return {
        "call_id": result.call_id,
        "content": result.content,
        "name": result.name,
        "failed": result.failed,
    }


def _attachment(attachment: Attachment) -> dict[str, Any]:
    return {
        "id": str(attachment.id),
        "media_type": attachment.media_type,
        "url": attachment.url,
        "size_bytes": attachment.size_bytes,
    }
