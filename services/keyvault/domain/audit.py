"""The trail: each time a key was stored, opened or withdrawn, by whom and for what."""

from __future__ import annotations

from dataclasses import field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import ProviderKey
from shared.ids import UserId, uuid7
from shared.values import dataclass

US = "keyvault"


class Kind(StrEnum):
    """What happened to the key."""

    STORED = "stored"
    USED = "used"  # authorised for one call to the vendor; whether it was sent, we don't see
    VALIDATED = "validated"  # opened to ask the vendor about it
    DELETED = "deleted"
    NOT_OPENED = "not_opened"  # its seal was broken: an operator must look


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the trail. Lines are added, never changed."""

    kind: Kind
    owner: Owner
    provider: str
    key_id: UUID
    key_version: int
    at: datetime
    service: str = US
    request_id: str | None = None
    user_id: UserId | None = None  # who asked for it, or for whom it was
    id: UUID = field(default_factory=uuid7)


def entry_about(
    key: ProviderKey, kind: Kind, at: datetime, *, by: UserId, request_id: str | None
) -> AuditEntry:
    """A line about what we did with a key ourselves, because somebody asked for it."""
    return AuditEntry(
        kind,
        key.owner,
        key.provider,
        key.id,
        key.version,
        at,
        request_id=request_id,
        user_id=by,
    )
