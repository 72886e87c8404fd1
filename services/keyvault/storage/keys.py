"""Users' keys in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.keyvault.domain.fingerprint import Fingerprint
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import KeyId, ProviderKey, Status
from services.keyvault.domain.secret import SealedSecret
from shared.db.database import Connection, Row

_COLUMNS = """
id, owner_type, owner_id, provider, version, status, hint, tier, data_key_id, envelope, fingerprint,
fingerprint_version, capabilities, models, details, last_validated_at, last_error, next_check_at,
failed_checks, created_at, updated_at, check_requested_at
"""

_LOCK = "select pg_advisory_xact_lock(hashtextextended($1, 0))"

_OF_OWNER = f"""
select {_COLUMNS} from provider_key
where owner_id = $1 and owner_type = $2 and status <> 'revoked' order by provider
"""  # noqa: S608 - built from constants

_FIND = f"""
select {_COLUMNS} from provider_key
where owner_id = $1 and owner_type = $2 and provider = $3 for update
"""  # noqa: S608 - built from constants

_SAVE = f"""
insert into provider_key ({_COLUMNS})
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22)
on conflict (id) do update set
    version = excluded.version, status = excluded.status, hint = excluded.hint,
    tier = excluded.tier, data_key_id = excluded.data_key_id, envelope = excluded.envelope,
    fingerprint = excluded.fingerprint, fingerprint_version = excluded.fingerprint_version,
    capabilities = excluded.capabilities, models = excluded.models, details = excluded.details,
    last_validated_at = excluded.last_validated_at, last_error = excluded.last_error,
    next_check_at = excluded.next_check_at, failed_checks = excluded.failed_checks,
    updated_at = excluded.updated_at, check_requested_at = excluded.check_requested_at
"""  # noqa: S608 - built from constants

_DELETE_ALL = "delete from provider_key where owner_id = $1 and owner_type = $2"

_CLAIM_DUE = f"""
with due as (
    select id as due_id from provider_key
    where next_check_at <= $1 and status <> 'revoked'
    order by next_check_at limit $3 for update skip locked
)
update provider_key set next_check_at = $2, check_requested_at = $1 from due where id = due_id
returning {_COLUMNS}
"""  # noqa: S608 - built from constants


class SqlKeys:
    """The keys, seen through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock(self, owner: Owner) -> None:
        """Two first keys of one owner at once would else make two data keys."""
        await self._connection.execute(_LOCK, f"{owner.type}:{owner.id}")

    async def of(self, owner: Owner) -> Sequence[ProviderKey]:
        rows = await self._connection.fetch(_OF_OWNER, owner.id, owner.type)
        return [from_row(row) for row in rows]

    async def find(self, owner: Owner, provider: str) -> ProviderKey | None:
        row = await self._connection.fetchrow(_FIND, owner.id, owner.type, provider)
        return from_row(row) if row else None

    async def save(self, key: ProviderKey) -> None:
        await self._connection.execute(_SAVE, *to_row(key))

    async def delete_all(self, owner: Owner) -> None:
        await self._connection.execute(_DELETE_ALL, owner.id, owner.type)

    async def claim_due(
        self, now: datetime, *, put_off_until: datetime, most: int
    ) -> Sequence[ProviderKey]:
        rows = await self._connection.fetch(_CLAIM_DUE, now, put_off_until, most)
        return [from_row(row) for row in rows]


def from_row(row: Row) -> ProviderKey:
    """A row as the key it stands for."""
    return ProviderKey(
        id=KeyId(row["id"]),
        owner=Owner(row["owner_type"], row["owner_id"]),
        provider=row["provider"],
        version=row["version"],
        status=Status(row["status"]),
        hint=row["hint"],
        tier=row["tier"],
        secret=_secret_from(row),
        capabilities=tuple(row["capabilities"]),
        models=tuple(row["models"]),
        details=row["details"],
        last_validated_at=row["last_validated_at"],
        last_error=row["last_error"],
        next_check_at=row["next_check_at"],
        failed_checks=row["failed_checks"],
        check_requested_at=row["check_requested_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _secret_from(row: Row) -> SealedSecret | None:
    if row["envelope"] is None:
        return None
    fingerprint = Fingerprint(row["fingerprint_version"], row["fingerprint"])
    return SealedSecret(row["data_key_id"], row["envelope"], fingerprint)


def to_row(key: ProviderKey) -> tuple[Any, ...]:
    """The key as values in the order of the columns."""
    secret = key.secret
    return (
        key.id,
        key.owner.type,
        key.owner.id,
        key.provider,
        key.version,
        key.status.value,
        key.hint,
        key.tier,
        secret.data_key_id if secret else None,
        secret.envelope if secret else None,
        secret.fingerprint.digest if secret else None,
        secret.fingerprint.version if secret else None,
        list(key.capabilities),
        list(key.models),
        dict(key.details),
        key.last_validated_at,
        key.last_error,
        key.next_check_at,
        key.failed_checks,
        key.created_at,
        key.updated_at,
        key.check_requested_at,
    )
