"""Roots in PostgreSQL that a key service has wrapped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.keyvault.domain.roots import SealedRoot
from shared.db.database import Connection

_ALL = "select purpose, version, kek_version, envelope from sealed_root order by purpose, version"
_SAVE = """
insert into sealed_root (purpose, version, kek_version, envelope) values ($1, $2, $3, $4)
on conflict (purpose, version) do update
set kek_version = excluded.kek_version, envelope = excluded.envelope
"""


class SqlSealedRoots:
    """The sealed roots, seen through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def all(self) -> Sequence[SealedRoot]:
        rows = await self._connection.fetch(_ALL)
        return [
            SealedRoot(row["purpose"], row["version"], row["kek_version"], row["envelope"])
            for row in rows
        ]

    async def save(self, roots: Iterable[SealedRoot]) -> None:
        for root in roots:
            await self._connection.execute(
                _SAVE, root.purpose, root.version, root.kek_version, root.envelope
            )
