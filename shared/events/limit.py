"""`limit.*`: how far users are with their limits. `reached` is published by billing."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from pydantic import Field

from shared.events.base import Event


class LimitReached(Event):
    """So much of a window is used: told once per window and threshold, and again of a larger limit.
    `refused`: it is not, but what is left had no room for a request."""

    type = "limit.reached"

    user_id: UUID
    window: str
    percent: int = Field(ge=1, le=100)
    limit: int = Field(ge=0)
    used: int = Field(ge=0)
    resets_at: datetime
    refused: bool = False


class LimitRefused(Event):
    """A request was refused since what is left of a month's window had no room for it. Published by
    voice; told once or a few times for each user and window. Nobody misses it who does not listen
    yet."""

    type = "limit.refused"
    needs_listener: ClassVar[bool] = False

    user_id: UUID
    window: str
    limit: int = Field(ge=0)
    used: int = Field(ge=0)
    resets_at: datetime
