"""`subscription.*`: what a user has paid for. Published by billing."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from shared.events.base import Event


class SubscriptionChanged(Event):
    """A user's tier is another one now. Keep the highest `revision` per user."""

    type = "subscription.changed"

    user_id: UUID
    tier_name: str
    seats: int = Field(1, ge=1)
    revision: int = Field(ge=1)
