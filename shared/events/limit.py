"""`limit.*`: how far users are with their limits. Published by billing."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from shared.events.base import Event


class LimitReached(Event):
    """So much of a window is used: told once per window and threshold."""

    type = "limit.reached"

    user_id: UUID
    window: str
    percent: int = Field(ge=1, le=100)
    limit: int = Field(ge=0)
    used: int = Field(ge=0)
    resets_at: datetime
