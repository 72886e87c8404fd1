"""The audit trail: rows are added and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.auth.domain.audit import AuditEntry
from services.auth.domain.origin import NOWHERE, Origin
from shared.db.database import Connection, Row
from shared.db.forgotten import erased
from shared.ids import UserId, first_id_at

_NOTE = """
insert into audit_event (id, at, action, user_id, actor_id, organisation_id, facts)
values ($1, $2, $3, $4, $5, $6, $7)
"""
_NOTE_ALL = """
insert into audit_event (id, at, action, user_id, actor_id, organisation_id, facts)
select * from unnest(
    $1::uuid[], $2::timestamptz[], $3::text[], $4::uuid[], $5::uuid[], $6::uuid[], $7::jsonb[]
)
"""
# Of who was deleted while a guess at their password was still being looked at there is none: nobody
# would look for it again.
_NOTE_ORIGIN = """
insert into audit_origin (event_id, user_id, device, address)
select $1::uuid, $2::uuid, $3::text, $4::text
where not exists (select 1 from erasure where user_id = $2)
"""
_COLUMNS = """
select e.id, e.at, e.action, e.user_id, e.actor_id, e.organisation_id, e.facts,
    o.device, o.address
from audit_event e left join audit_origin o on o.event_id = e.id
"""
# Ids are made in time's order, so they are the order of a page and its cursor.
_OF_USER = f"""
{_COLUMNS} where e.user_id = $1 and ($2::uuid is null or e.id < $2) order by e.id desc limit $3
"""
_OF_ORGANISATION = f"""
{_COLUMNS} where e.organisation_id = $1 and ($2::uuid is null or e.id < $2)
order by e.id desc limit $3
"""
_BY_USER = f"""
{_COLUMNS} where e.actor_id = $1 and e.user_id is distinct from e.actor_id
  and ($2::uuid is null or e.id < $2)
order by e.id desc limit $3
"""
_OF_EVERYBODY = f"""
{_COLUMNS} where $1::timestamptz is null or e.at >= $1 order by e.id desc limit $2
"""
_ERASE_ORIGINS = """
delete from audit_origin where event_id in (
    select event_id from audit_origin where user_id = $1 limit $2
)
"""
_FORGET_ORIGINS = """
delete from audit_origin where event_id in (
    select event_id from audit_origin where event_id < $1 order by event_id limit $2
)
"""


class SqlAudit:
    """The repository of what happened."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def note(self, entry: AuditEntry) -> None:
        await self._connection.execute(_NOTE, *_row(entry))
        if entry.origin != NOWHERE:
            # It says something about who acted: that is whose it is, and with whom it goes. Of a
            # stranger we know nothing else than at whose door they were.
            whose = entry.actor_id or entry.user_id
            origin = entry.origin
            await self._connection.execute(
                _NOTE_ORIGIN, entry.id, whose, origin.device, origin.address
            )

    async def note_all(self, entries: Sequence[AuditEntry]) -> None:
        assert all(entry.origin == NOWHERE for entry in entries)
        if entries:
            rows = zip(*map(_row, entries), strict=True)
            await self._connection.execute(_NOTE_ALL, *map(list, rows))

    async def of_user(
        self, user_id: UserId, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        rows = await self._connection.fetch(_OF_USER, user_id, before, most)
        return [from_row(row) for row in rows]

    async def by_user(
        self, user_id: UserId, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        rows = await self._connection.fetch(_BY_USER, user_id, before, most)
        return [from_row(row) for row in rows]

    async def of_organisation(
        self, organisation_id: UUID, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        rows = await self._connection.fetch(_OF_ORGANISATION, organisation_id, before, most)
        return [from_row(row) for row in rows]

    async def of_everybody(self, *, since: datetime | None, most: int) -> Sequence[AuditEntry]:
        return [from_row(row) for row in await self._connection.fetch(_OF_EVERYBODY, since, most)]

    async def erase_origins_of(self, user_id: UserId, *, most: int) -> int:
        return erased(await self._connection.execute(_ERASE_ORIGINS, user_id, most))

    async def forget_before(self, at: datetime, *, most: int) -> int:
        return erased(await self._connection.execute(_FORGET_ORIGINS, first_id_at(at), most))


def _row(entry: AuditEntry) -> tuple[object, ...]:
    return (
        entry.id,
        entry.at,
        entry.action,
        entry.user_id,
        entry.actor_id,
        entry.organisation_id,
        dict(entry.facts),
    )


def from_row(row: Row) -> AuditEntry:
    """An entry as it was noted, from nowhere once that was forgotten."""
    user_id, actor_id, address = row["user_id"], row["actor_id"], row["address"]
    return AuditEntry(
        id=row["id"],
        at=row["at"],
        action=row["action"],
        user_id=UserId(user_id) if user_id else None,
        actor_id=UserId(actor_id) if actor_id else None,
        organisation_id=row["organisation_id"],
        facts=row["facts"],
        origin=NOWHERE if address is None else Origin(row["device"], address),
    )
