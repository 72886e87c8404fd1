"""`subscription.*`: what was paid for. Published by billing."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from shared.events.base import Event


class SubscriptionChanged(Event):
    """The tier is another one now: the user's own, or that of the organisation where one is named.

    Keep the highest `revision` per user and per organisation. With an organisation `user_id` is
    who made the change, and the tier is not theirs.
    """

    type = "subscription.changed"

    user_id: UUID
    tier_name: str
    seats: int = Field(1, ge=1)
    revision: int = Field(ge=1)
    organisation_id: UUID | None = None
