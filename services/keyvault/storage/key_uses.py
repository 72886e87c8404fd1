"""Notes the use of a key and fetches what is to be opened: one statement, and so one transaction.

Every call to a vendor waits for this, hence one round trip and no unit of work around it.
"""

from __future__ import annotations

from collections.abc import Collection

from services.keyvault.domain.audit import AuditEntry
from services.keyvault.domain.key_use import FoundKey, KeyUse
from services.keyvault.domain.provider_key import Status
from services.keyvault.domain.secret import DataKey, SecretName
from services.keyvault.storage import audit
from shared.db.database import Database, Row

_NOTE = """
with found as (
    select k.id, k.version, k.status, k.envelope, d.id as data_key_id, d.kek_version, d.wrapped
    from provider_key k left join data_key d on d.id = k.data_key_id
    where k.owner_id = $4 and k.owner_type = $3 and k.provider = $5
), noted as (
    insert into audit_entry
        (id, kind, owner_type, owner_id, provider, key_id, key_version, service, request_id,
         grant_id, at)
    select $1, $2, $3, $4, $5, id, version, $6, $7, $8, $9 from found
    where status = any($10) and ($11::int is null or version = $11)
    on conflict (grant_id) do nothing
    returning id
)
select found.*, exists (select from noted) as is_noted from found
"""


class SqlKeyUses:
    """The way to a sealed secret, on a connection of its own each time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, use: KeyUse, *, if_status: Collection[Status]) -> FoundKey | None:
        row = await self._database.fetchrow(
            _NOTE,
            use.id,
            use.kind.value,
            use.owner.type,
            use.owner.id,
            use.provider,
            use.service,
            use.request_id,
            use.grant_id,
            use.at,
            if_status,
            use.version,
        )
        return _found(row, use) if row else None

    async def note_broken(self, entry: AuditEntry) -> None:
        await self._database.execute(audit.ADD, *audit.to_row(entry))


def _found(row: Row, use: KeyUse) -> FoundKey:
    data_key = None
    if row["data_key_id"] is not None:
        data_key = DataKey(row["data_key_id"], use.owner, row["kek_version"], row["wrapped"])
    return FoundKey(
        name=SecretName(row["id"], use.owner, use.provider, row["version"]),
        status=Status(row["status"]),
        data_key=data_key,
        envelope=row["envelope"],
        is_noted=row["is_noted"],
    )
