"""Canaries of the keyring in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from services.keyvault.domain.canary import Canary, Purpose
from services.keyvault.domain.errors import VersionClosed
from shared.db.database import Connection

_ALL = "select purpose, version, proof from keyring_canary order by purpose, version"
# Under the lock one process's canaries go in whole; whoever comes second finds them there.
_LOCK = "lock table keyring_canary in exclusive mode"
_ADD_FIRST = """
insert into keyring_canary (purpose, version, proof)
select * from unnest($1::text[], $2::int[], $3::bytea[])
where not exists (select from keyring_canary)
returning version
"""
_ADD = """
insert into keyring_canary (purpose, version, proof)
select * from unnest($1::text[], $2::int[], $3::bytea[])
on conflict do nothing
"""
_HOLD = """
select 1 from keyring_canary where purpose = 'wrapping' and version = $1 for key share
"""
_REMOVE = "delete from keyring_canary where purpose = 'wrapping' and version = $1"


class SqlCanaries:
    """The canaries, seen through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def all(self) -> Sequence[Canary]:
        rows = await self._connection.fetch(_ALL)
        return [Canary(Purpose(row["purpose"]), row["version"], row["proof"]) for row in rows]

    async def add_first(self, canaries: Iterable[Canary]) -> bool:
        await self._connection.execute(_LOCK)
        return bool(await self._connection.fetch(_ADD_FIRST, *_columns(canaries)))

    async def add(self, canaries: Iterable[Canary]) -> None:
        await self._connection.execute(_ADD, *_columns(canaries))

    async def hold(self, version: int) -> None:
        if await self._connection.fetchrow(_HOLD, version) is None:
            raise VersionClosed(version)

    async def remove(self, version: int) -> None:
        await self._connection.execute(_REMOVE, version)


def _columns(canaries: Iterable[Canary]) -> list[list[Any]]:
    rows = [(canary.purpose.value, canary.version, canary.proof) for canary in canaries]
    return [list(column) for column in zip(*rows, strict=True)]
