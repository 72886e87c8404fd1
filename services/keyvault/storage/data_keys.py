"""Owners' data keys in PostgreSQL, each wrapped by a version of the keyring."""

from __future__ import annotations

from services.keyvault.domain.owner import Owner
from services.keyvault.domain.secret import DataKey
from shared.db.database import Connection

_OF = """
select id, owner_type, owner_id, kek_version, wrapped from data_key
where owner_id = $1 and owner_type = $2
"""
_ADD = """
insert into data_key (id, owner_type, owner_id, kek_version, wrapped) values ($1, $2, $3, $4, $5)
"""
_SHRED = "delete from data_key where owner_id = $1 and owner_type = $2"
_ANY = "select exists (select from data_key)"


class SqlDataKeys:
    """The data keys, seen through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of(self, owner: Owner) -> DataKey | None:
        row = await self._connection.fetchrow(_OF, owner.id, owner.type)
        if row is None:
            return None
        return DataKey(row["id"], owner, row["kek_version"], row["wrapped"])

    async def add(self, data_key: DataKey) -> None:
        await self._connection.execute(
            _ADD,
            data_key.id,
            data_key.owner.type,
            data_key.owner.id,
            data_key.kek_version,
            data_key.wrapped,
        )

    async def shred(self, owner: Owner) -> None:
        await self._connection.execute(_SHRED, owner.id, owner.type)

    async def any_exists(self) -> bool:
        return bool(await self._connection.fetchval(_ANY))
