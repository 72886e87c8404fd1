"""`seat.*`: who has one of an organisation's seats. Published by auth."""

from __future__ import annotations

from uuid import UUID

from shared.events.base import Event


class SeatAssigned(Event):
    """The user has a seat now, and with it the organisation's tier."""

    type = "seat.assigned"
    needs_listener = False

    organisation_id: UUID
    user_id: UUID


class SeatReleased(Event):
    """The seat is free again: taken back, given up, or not paid for any more."""

    type = "seat.released"
    needs_listener = False

    organisation_id: UUID
    user_id: UUID
