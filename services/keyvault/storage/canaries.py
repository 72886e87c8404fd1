"""Canaries of the keyring in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.keyvault.domain.canary import Canary, Purpose
from shared.db.database import Connection

_ALL = "select purpose, version, proof from keyring_canary order by purpose, version"
# Under the lock one process's canaries go in whole; whoever comes second finds them there.
_LOCK = "lock table keyring_canary in exclusive mode"
_ADD_FIRST = """
insert into keyring_canary (purpose, version, proof)
select * from unnest($1::text[], $2::int[], $3::bytea[])
where not exists (select from keyring_canary)
"""


class SqlCanaries:
    """The canaries, seen through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def all(self) -> Sequence[Canary]:
        rows = await self._connection.fetch(_ALL)
        return [Canary(Purpose(row["purpose"]), row["version"], row["proof"]) for row in rows]

    async def add_first(self, canaries: Iterable[Canary]) -> None:
        rows = [(canary.purpose.value, canary.version, canary.proof) for canary in canaries]
        await self._connection.execute(_LOCK)
        await self._connection.execute(_ADD_FIRST, *map(list, zip(*rows, strict=True)))
