"""The trail in PostgreSQL: inserts and reads, until its owner is forgotten."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from services.keyvault.domain.audit import AuditEntry, Kind
from services.keyvault.domain.owner import Owner
from shared.db.database import Connection, Row
from shared.db.forgotten import erased
from shared.ids import UserId, first_id_at

ADD = """
insert into audit_entry
    (id, kind, owner_type, owner_id, provider, key_id, key_version, service, request_id, at,
     user_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""

# Ids are made in the order of time, so they are the order of the trail and its cursor.
# A member's own share of their organisation's trail stands in theirs.
_PAGE = """
select * from (
    (select * from audit_entry
     where owner_id = $1 and owner_type = $2 and ($3::uuid is null or id < $3)
     order by id desc limit $4)
    union all
    (select * from audit_entry
     where $2 = 'user' and owner_type = 'organisation' and user_id = $1
         and ($3::uuid is null or id < $3)
     order by id desc limit $4)
) line
order by id desc limit $4
"""

# Reads no further than the n-th line of each kind, and none but those.
_NTH_LATEST = """
select max(nth.at) as at from unnest($3::text[]) as counted(kind), lateral (
    select at from audit_entry
    where owner_id = $1 and owner_type = $2 and kind = counted.kind
        and kind in ('stored', 'validated') and id >= $4
    order by id desc offset $5 limit 1
) nth
"""

_UNNAME = """
update audit_entry set user_id = null where id in (
    select id from audit_entry where owner_type = 'organisation' and user_id = $1 limit $2
)
"""

_ERASE = """
delete from audit_entry where id in (
    select id from audit_entry where owner_id = $1 and owner_type = $2 limit $3
)
"""


class SqlAuditTrail:
    """The trail, seen through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, entry: AuditEntry) -> None:
        await self._connection.execute(ADD, *to_row(entry))

    async def page(self, owner: Owner, *, before: UUID | None, most: int) -> Sequence[AuditEntry]:
        rows = await self._connection.fetch(_PAGE, owner.id, owner.type, before, most)
        return [from_row(row) for row in rows]

    async def nth_latest(
        self, owner: Owner, kinds: Collection[Kind], n: int, *, since: datetime
    ) -> datetime | None:
        row = await self._connection.fetchrow(
            _NTH_LATEST, owner.id, owner.type, list(kinds), first_id_at(since), n - 1
        )
        assert row is not None
        found: datetime | None = row["at"]
        return found

    async def erase(self, owner: Owner, *, most: int) -> int:
        return erased(await self._connection.execute(_ERASE, owner.id, owner.type, most))

    async def unname(self, member: UserId, *, most: int) -> int:
        return erased(await self._connection.execute(_UNNAME, member, most))


def from_row(row: Row) -> AuditEntry:
    """A row as the line it stands for."""
    return AuditEntry(
        kind=Kind(row["kind"]),
        owner=Owner(row["owner_type"], row["owner_id"]),
        provider=row["provider"],
        key_id=row["key_id"],
        key_version=row["key_version"],
        at=row["at"],
        service=row["service"],
        request_id=row["request_id"],
        user_id=row["user_id"],
        id=row["id"],
    )


def to_row(entry: AuditEntry) -> tuple[object, ...]:
    """The line as values in the order of the columns."""
    return (
        entry.id,
        entry.kind.value,
        entry.owner.type,
        entry.owner.id,
        entry.provider,
        entry.key_id,
        entry.key_version,
        entry.service,
        entry.request_id,
        entry.at,
        entry.user_id,
    )
