"""`user.*`: accounts come and go. Published by auth, answered by every service."""

from __future__ import annotations

from uuid import UUID

from shared.events.base import Event


class UserRegistered(Event):
    """A new account exists."""

    type = "user.registered"
    needs_listener = False

    user_id: UUID


class UserDeleted(Event):
    """An account exists no more: every service is to forget its user, and to say so."""

    type = "user.deleted"

    user_id: UUID
    erasure_id: UUID


class UserForgotten(Event):
    """A service holds nothing of a deleted user any more. Published by that service."""

    type = "user.forgotten"

    user_id: UUID
    erasure_id: UUID
    service: str
