"""A message as clients see it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from services.chat.domain.conversation import Message
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


class MessageBody(BaseModel):
    """What was said, by whom, and what it took."""

    id: UUID
    session_id: UUID
    role: str
    content: str
    provider: str | None
    model: str | None
    usage: UsageBody | None
    cost_microusd: int | None
    cost_usd: str | None
    processing_time_ms: int | None
    status: str
    created_at: datetime

    @classmethod
    def of(cls, message: Message) -> MessageBody:
        return cls(
            id=message.id,
            session_id=message.session_id,
            role=message.role,
            content=message.content,
            provider=message.provider,
            model=message.model,
            usage=UsageBody.model_validate(message.usage) if message.usage else None,
            cost_microusd=message.cost_microusd,
            cost_usd=dollars_text(message.cost_microusd),
            processing_time_ms=message.processing_time_ms,
            status=message.status,
            created_at=message.created_at,
        )
