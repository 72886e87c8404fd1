"""The chain over the audit trail: links are added and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.auth.domain.audit_chain import ChainedEvent, ChainState, Head, Link, LinkedEvent
from shared.db.database import Connection, Row

_CHAIN_LOCK = 4243
# Lets go at the end of the transaction, when its links can be seen by the next one.
_TAKE_TURN = "select pg_try_advisory_xact_lock($1)"
_HEAD = "select sequence, mac from audit_link order by sequence desc limit 1"
_EVENT = """
    e.id, e.at, e.action, e.user_id, e.actor_id, e.organisation_id, e.facts::text as facts
"""
# They are there again after a restore that brought the rows back under the triggers.
_DROP_LINKED = """
delete from audit_unlinked u using audit_link l where l.event_id = u.event_id
"""
# However late a transaction commits, its events wait here from that moment on.
_UNLINKED = f"""
select {_EVENT} from audit_unlinked join audit_event e on e.id = event_id order by e.id limit $1
"""  # noqa: S608 - constants only
_ADD = """
insert into audit_link (sequence, event_id, key_version, mac)
select * from unnest($1::bigint[], $2::uuid[], $3::int[], $4::bytea[])
"""
_TAKEN_UP = "delete from audit_unlinked where event_id = any($1::uuid[])"
_AFTER = f"""
select l.sequence, l.event_id, l.key_version, l.mac, {_EVENT}
from audit_link l left join audit_event e on e.id = l.event_id
where l.sequence > $1 order by l.sequence limit $2
"""  # noqa: S608
# In one statement, hence at one moment: an event either waits or has its link.
_EVENTS_AFTER = """
select e.id, l.sequence is not null as is_linked, u.event_id is not null as is_waiting
from audit_event e
left join audit_link l on l.event_id = e.id
left join audit_unlinked u on u.event_id = e.id
where $1::uuid is null or e.id > $1 order by e.id limit $2
"""
_STATE = """
select coalesce((select max(sequence) from audit_link), 0) as length,
    count(*) as waiting, min(noted_at) as waiting_since
from audit_unlinked
"""


class SqlAuditChain:
    """The chain, seen through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def take_turn(self) -> bool:
        row = await self._connection.fetchrow(_TAKE_TURN, _CHAIN_LOCK)
        return row is not None and bool(row[0])

    async def head(self) -> Head:
        row = await self._connection.fetchrow(_HEAD)
        return Head(row["sequence"], row["mac"]) if row else Head()

    async def unlinked(self, *, most: int) -> Sequence[ChainedEvent]:
        await self._connection.execute(_DROP_LINKED)
        return [_event(row) for row in await self._connection.fetch(_UNLINKED, most)]

    async def add(self, links: Sequence[Link]) -> None:
        await self._connection.execute(
            _ADD,
            [link.sequence for link in links],
            [link.event_id for link in links],
            [link.key_version for link in links],
            [link.mac for link in links],
        )
        await self._connection.execute(_TAKEN_UP, [link.event_id for link in links])

    async def after(self, sequence: int, *, most: int) -> Sequence[LinkedEvent]:
        return [_linked(row) for row in await self._connection.fetch(_AFTER, sequence, most)]

    async def events_after(
        self, event_id: UUID | None, *, most: int
    ) -> Sequence[tuple[UUID, bool, bool]]:
        rows = await self._connection.fetch(_EVENTS_AFTER, event_id, most)
        return [(row["id"], row["is_linked"], row["is_waiting"]) for row in rows]

    async def state(self, at: datetime) -> ChainState:
        row = await self._connection.fetchrow(_STATE)
        assert row is not None
        since = row["waiting_since"]
        waited = max(0.0, (at - since).total_seconds()) if since else 0.0
        return ChainState(row["length"], row["waiting"], waited)


def _event(row: Row) -> ChainedEvent:
    return ChainedEvent(
        id=row["id"],
        at=row["at"],
        action=row["action"],
        user_id=row["user_id"],
        actor_id=row["actor_id"],
        organisation_id=row["organisation_id"],
        facts=row["facts"],
    )


def _linked(row: Row) -> LinkedEvent:
    link = Link(row["sequence"], row["event_id"], row["key_version"], row["mac"])
    return LinkedEvent(link, _event(row) if row["id"] is not None else None)
