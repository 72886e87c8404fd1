"""What a rotation needs to know, in PostgreSQL: who has which keyring, and how far a rewrap is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from services.keyvault.domain.rotation import Replica
from shared.db.database import Connection

# The database's clock alone: those of two machines differ by more than one thinks.
_REPORT = """
insert into keyring_replica (replica, active, versions, good_until)
values ($1, $2, $3, now() + $4::interval)
on conflict (replica) do update
set active = excluded.active, versions = excluded.versions, good_until = excluded.good_until
"""
_TIDY = "delete from keyring_replica where good_until < now() - interval '1 hour'"
_LEAVE = "delete from keyring_replica where replica = $1"
_LIVE = """
select replica, active, versions from keyring_replica where good_until > now() order by replica
"""
_COUNT = """
insert into keyring_rewrap (kek_version, rewrapped, last_at) values ($1, $2, now())
on conflict (kek_version) do update
set rewrapped = keyring_rewrap.rewrapped + excluded.rewrapped, last_at = excluded.last_at
"""
_COUNTED = "select kek_version, rewrapped from keyring_rewrap order by kek_version"


class SqlRotation:
    """The state of a rotation, seen through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def report(self, replica: Replica, *, good_for: timedelta) -> None:
        await self._connection.execute(_TIDY)
        await self._connection.execute(
            _REPORT, replica.name, replica.active, sorted(replica.versions), good_for
        )

    async def leave(self, name: str) -> None:
        await self._connection.execute(_LEAVE, name)

    async def live(self) -> Sequence[Replica]:
        rows = await self._connection.fetch(_LIVE)
        return [Replica(row["replica"], row["active"], frozenset(row["versions"])) for row in rows]

    async def count(self, version: int, rewrapped: int) -> None:
        await self._connection.execute(_COUNT, version, rewrapped)

    async def counted(self) -> Mapping[int, int]:
        rows = await self._connection.fetch(_COUNTED)
        return {row["kek_version"]: row["rewrapped"] for row in rows}
