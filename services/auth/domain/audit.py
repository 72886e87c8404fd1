"""What is worth remembering about who did what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from services.auth.domain.origin import NOWHERE, Origin
from shared.ids import UserId, uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act. `action` is a `noun.past`; `facts` hold ids and words, never a secret or an address.

    `user_id` is whom it concerns, `actor_id` who did it (None: the system, or a stranger).
    """

    id: UUID
    at: datetime
    action: str
    user_id: UserId | None
    actor_id: UserId | None
    organisation_id: UUID | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin = NOWHERE

    def origin_for(self, reader: UserId | None) -> Origin | None:
        """From where it was done, if that is known and the reader's business: another user's
        device and address are not."""
        is_strangers = self.actor_id not in (None, reader)
        return None if is_strangers or self.origin == NOWHERE else self.origin

    @classmethod
    def of_user(
        cls, action: str, user_id: UserId, at: datetime, origin: Origin = NOWHERE, **facts: Any
    ) -> Self:
        """Something that a user did with their own account."""
        return cls(uuid7(), at, action, user_id, user_id, None, facts, origin)

    @classmethod
    def in_organisation(
        cls,
        action: str,
        organisation_id: UUID,
        at: datetime,
        origin: Origin = NOWHERE,
        *,
        by: UserId | None,
        user_id: UserId | None = None,
        **facts: Any,
    ) -> Self:
        """Something done in an organisation, to one of its members or to itself."""
        return cls(uuid7(), at, action, user_id, by, organisation_id, facts, origin)
