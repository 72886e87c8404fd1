"""`organisation.*`: organisations go. Published by auth."""

from __future__ import annotations

from uuid import UUID

from shared.events.base import Event


class OrganisationDeleted(Event):
    """The organisation exists no more: nothing is sold to it from now on. `user_id`: by whom.
    `decided`: who decided about its subscription until then, and still reads its books."""

    type = "organisation.deleted"

    organisation_id: UUID
    user_id: UUID
    decided: tuple[UUID, ...] = ()
