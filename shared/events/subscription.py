"""`subscription.*`: what was paid for. Published by billing."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from shared.events.base import Event


class SubscriptionChanged(Event):
    """The tier is another one now: the user's own, or that of the organisation where one is named.

    Keep the highest `revision` per user and per organisation. With an organisation `user_id` is
    who made the change (the organisation itself: the clock), and the tier is not theirs.
    `next_seats`: how many it is to have from the next period on, where that is planned.
    """

    type = "subscription.changed"

    user_id: UUID
    tier_name: str
    seats: int = Field(1, ge=1)
    revision: int = Field(ge=1)
    organisation_id: UUID | None = None
    next_seats: int | None = Field(None, ge=1)


class SubscriptionEnded(Event):
    """A tier was held, and nothing but the free one is from now on. Beside `subscription.changed`,
    for those who are to be told why: `unpaid`, `trial_over`, `cancelled` or `ended`."""

    type = "subscription.ended"

    holder_id: UUID
    is_organisation: bool
    tier_name: str
    reason: str
