"""`key.*`: what happens to provider keys. Published by keyvault.

`user_id` is whose key it is. Of an organisation's key both `user_id` and `organisation_id` are the
organisation's id: whoever knows of users alone takes it for a user whom nobody is.
"""

from __future__ import annotations

from uuid import UUID

from shared.events.base import Event


class KeyValidationRequested(Event):
    """A key waits to be checked with its vendor."""

    type = "key.validation_requested"

    user_id: UUID
    key_id: UUID
    provider: str
    key_version: int
    organisation_id: UUID | None = None


class KeyValidated(Event):
    """A vendor has told what it thinks of a key; the highest `key_version` counts."""

    type = "key.validated"

    user_id: UUID
    key_id: UUID
    provider: str
    key_version: int
    status: str
    capabilities: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    organisation_id: UUID | None = None


class KeyRevoked(Event):
    """A key is gone for good: whatever still uses it must stop."""

    type = "key.revoked"

    user_id: UUID
    key_id: UUID
    provider: str
    key_version: int
    organisation_id: UUID | None = None
