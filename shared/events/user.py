"""`user.*`: accounts come and go. Published by auth."""

from __future__ import annotations

from uuid import UUID

from shared.events.base import Event


class UserRegistered(Event):
    """A new account exists."""

    type = "user.registered"
    needs_listener = False

    user_id: UUID
