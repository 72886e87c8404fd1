"""`spend.*`: what users spend on their own keys. Published by billing."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from shared.events.base import Event


class SpendReached(Event):
    """A month's spending has come to a threshold of the user's: told once for each."""

    type = "spend.reached"

    user_id: UUID
    month: str = Field(pattern=r"^\d{4}-\d{2}$")
    threshold_microusd: int = Field(ge=1)
    spent_microusd: int = Field(ge=0)
    resets_at: datetime
