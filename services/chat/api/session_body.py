"""A session as clients see it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from services.chat.domain.conversation import ChatSession


class SessionBody(BaseModel):
    """A conversation."""

    id: UUID
    name: str
    provider: str
    system_prompt: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, session: ChatSession) -> SessionBody:
        return cls(
            id=session.id,
            name=session.name,
            provider=session.provider,
            system_prompt=session.system_prompt,
            created_at=session.created_at,
            updated_at=session.updated_at,
        )
