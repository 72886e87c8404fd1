"""A user's place in an organisation."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from shared.values import dataclass


class OrganisationRole(StrEnum):
    """What a member may do in their organisation; nothing to do with the operator's roles."""

    OWNER = "owner"
    ADMIN = "admin"
    BILLING = "billing"
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class Membership:
    """A user's place; `tier` is the organisation's, and theirs as long as they have a seat."""

    organisation_id: UUID
    role: OrganisationRole
    tier: str
    joined_at: datetime
    seated_at: datetime | None

    @property
    def is_seated(self) -> bool:
        return self.seated_at is not None
