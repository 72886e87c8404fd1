"""A message as clients see it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel

from services.chat.domain.conversation import Attachment, Message
from shared.money import dollars_text


class UsageBody(BaseModel):
    """Token counts; `source` tells who counted: the vendor, we, or nobody (an estimate)."""

    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    output_reasoning_tokens: int
    total_tokens: int
    source: str


class ToolCallBody(BaseModel):
    """A tool that the model wants run; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolResultBody(BaseModel):
    """What a tool said."""

    call_id: str
    name: str | None
    content: str
    failed: bool


class AttachmentBody(BaseModel):
    """What was sent along with a message: bytes that are kept here, or a URL."""

    id: UUID
    type: str = "image"
    media_type: str | None
    url: str | None
    size_bytes: int | None

    @classmethod
    def of(cls, attachment: Attachment) -> AttachmentBody:
        return cls(
            id=attachment.id,
            media_type=attachment.media_type,
            url=attachment.url,
            size_bytes=attachment.size_bytes,
        )


class MessageBody(BaseModel):
    """What was said, by whom, and what it took. `parent_id` is the message before it on its branch;
    `active` tells whether that branch is the one that is shown and goes on. `safety_ratings`: the
    vendor's own of an answer, by category, where it gives any."""

    id: UUID
    session_id: UUID
    parent_id: UUID | None
    active: bool
    role: str
    content: str
    provider: str | None
    model: str | None
    usage: UsageBody | None
    cost_microusd: int | None
    cost_usd: str | None
    processing_time_ms: int | None
    status: str
    finish_reason: str | None
    tool_calls: list[ToolCallBody]
    tool_results: list[ToolResultBody]
    attachments: list[AttachmentBody]
    safety_ratings: dict[str, str] | None
    created_at: datetime

    @classmethod
    def of(cls, message: Message) -> MessageBody:
        return cls(
            id=message.id,
            session_id=message.session_id,
            parent_id=message.parent_id,
            active=message.active,
            role=message.role,
            content=message.content,
            provider=message.provider,
            model=message.model,
            usage=UsageBody.model_validate(message.usage) if message.usage else None,
            cost_microusd=message.cost_microusd,
            cost_usd=dollars_text(message.cost_microusd),
            processing_time_ms=message.processing_time_ms,
            status=message.status,
            finish_reason=message.finish_reason,
            tool_calls=[
                ToolCallBody(id=call.id, name=call.name, arguments=call.arguments)
                for call in message.tool_calls
            ],
            tool_results=[
                ToolResultBody(
                    call_id=result.call_id,
                    name=result.name,
                    content=result.content,
                    failed=result.failed,
                )
                for result in message.tool_results
            ],
            attachments=[AttachmentBody.of(one) for one in message.attachments],
            safety_ratings=dict(message.safety_ratings) if message.safety_ratings else None,
            created_at=message.created_at,
        )


class AnswerBody(BaseModel):
    """The answer, with what it used and cost. `fallback_from` names the provider that should have
    answered when another one did; `messages_left_out` tells how many messages of before did not fit
    into the model's context, and is null of an answer that is told again."""

    message: MessageBody
    usage: UsageBody | None
    cost_microusd: int | None
    cost_usd: str | None
    finish_reason: str
    fallback_from: str | None = None
    messages_left_out: int | None = None

    @classmethod
    def of(
        cls,
        message: Message,
        finish_reason: str,
        fallback_from: str | None = None,
        left_out: int | None = None,
    ) -> AnswerBody:
        body = MessageBody.of(message)
        return cls(
            message=body,
            usage=body.usage,
            cost_microusd=message.cost_microusd,
            cost_usd=dollars_text(message.cost_microusd),
            finish_reason=finish_reason,
            fallback_from=fallback_from,
            messages_left_out=left_out,
        )


def message_document(message: Message) -> dict[str, Any]:
    """What `MessageBody.of` says of a message, by hand: an answer tells it two or three times."""
    return {
        "id": message.id,
        "session_id": message.session_id,
        "parent_id": message.parent_id,
        "active": message.active,
        "role": message.role,
        "content": message.content,
        "provider": message.provider,
        "model": message.model,
        "usage": usage_document(message),
        "cost_microusd": message.cost_microusd,
        "cost_usd": dollars_text(message.cost_microusd),
        "processing_time_ms": message.processing_time_ms,
        "status": message.status,
        "finish_reason": message.finish_reason,
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": call.arguments}
            for call in message.tool_calls
        ],
        "tool_results": [
            {
                "call_id": result.call_id,
                "name": result.name,
                "content": result.content,
                "failed": result.failed,
            }
            for result in message.tool_results
        ],
        "attachments": [
            {
                "id": attachment.id,
                "type": "image",
                "media_type": attachment.media_type,
                "url": attachment.url,
                "size_bytes": attachment.size_bytes,
            }
            for attachment in message.attachments
        ],
        "safety_ratings": message.safety_ratings,
        "created_at": message.created_at,
    }


def usage_document(message: Message) -> dict[str, Any] | None:
    """What `UsageBody` says."""
    usage = message.usage
    return {name: usage[name] for name in _USAGE} if usage else None


def answer_json(
    message: Message, finish_reason: str, fallback_from: str | None, left_out: int | None
) -> bytes:
    """`AnswerBody` as JSON."""
    body = message_document(message)
    return to_json(
        {
            "message": body,
            "usage": body["usage"],
            "cost_microusd": body["cost_microusd"],
            "cost_usd": body["cost_usd"],
            "finish_reason": finish_reason,
            "fallback_from": fallback_from,
            "messages_left_out": left_out,
        }
    )


def to_json(document: dict[str, Any]) -> bytes:
    """The document as clients get it."""
    # The database's ids are a kind of UUID that orjson does not know.
    return orjson.dumps(document, default=str, option=orjson.OPT_UTC_Z)


_USAGE = tuple(UsageBody.model_fields)
