"""Owners' data keys in PostgreSQL, each wrapped by a version of the keyring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from services.keyvault.domain.errors import VersionClosed
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.secret import DataKey
from shared.db.database import Connection

_OF = """
select id, owner_type, owner_id, kek_version, wrapped from data_key
where owner_id = $1 and owner_type = $2
"""
# Only under a version that has its canary: a version loses it before it is closed, and the lock
# makes that wait for us.
_ADD = """
insert into data_key (id, owner_type, owner_id, kek_version, wrapped)
select $1, $2, $3, $4, $5 from keyring_canary
where purpose = 'wrapping' and version = $4
for key share
"""
_SHRED = "delete from data_key where owner_id = $1 and owner_type = $2"
_ANY = "select exists (select from data_key)"

# Older versions are those with a lower number. The lock leaves those alone who store a secret under
# a data key (their foreign key takes a key share), and what another run holds is its to do.
_CLAIM_OLDER = """
select id, owner_type, owner_id, kek_version, wrapped from data_key
where kek_version < $1 and (kek_version, id) > ($2, $3)
order by kek_version, id limit $4
for no key update skip locked
"""
_REPLACE_WRAPS = """
update data_key set kek_version = fresh.kek_version, wrapped = fresh.wrapped
from unnest($1::uuid[], $2::int[], $3::int[], $4::bytea[]) as fresh (id, was, kek_version, wrapped)
where data_key.id = fresh.id and data_key.kek_version = fresh.was
"""
_COUNT_BY_VERSION = """
select kek_version, count(*) as count from data_key group by kek_version order by kek_version
"""
_BEFORE_ALL = UUID(int=0)


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
        added = await self._connection.execute(
            _ADD,
            data_key.id,
            data_key.owner.type,
            data_key.owner.id,
            data_key.kek_version,
            data_key.wrapped,
        )
        if not _affected(added):
            raise VersionClosed(data_key.kek_version)

    async def shred(self, owner: Owner) -> None:
        await self._connection.execute(_SHRED, owner.id, owner.type)

    async def any_exists(self) -> bool:
        return bool(await self._connection.fetchval(_ANY))

    async def claim_older(
        self, version: int, *, after: DataKey | None, most: int
    ) -> Sequence[DataKey]:
        last = (after.kek_version, after.id) if after else (0, _BEFORE_ALL)
        rows = await self._connection.fetch(_CLAIM_OLDER, version, *last, most)
        return [
            DataKey(
                row["id"],
                Owner(row["owner_type"], row["owner_id"]),
                row["kek_version"],
                row["wrapped"],
            )
            for row in rows
        ]

    async def replace_wraps(self, wraps: Sequence[tuple[DataKey, DataKey]]) -> int:
        replaced = await self._connection.execute(
            _REPLACE_WRAPS,
            [known.id for known, _ in wraps],
            [known.kek_version for known, _ in wraps],
            [fresh.kek_version for _, fresh in wraps],
            [fresh.wrapped for _, fresh in wraps],
        )
        return _affected(replaced)

    async def count_by_version(self) -> Mapping[int, int]:
        rows = await self._connection.fetch(_COUNT_BY_VERSION)
        return {row["kek_version"]: row["count"] for row in rows}


def _affected(command_tag: str) -> int:
    return int(command_tag.rpartition(" ")[2])
