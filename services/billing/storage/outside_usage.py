"""What services outside the suite have told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.billing.domain.outside_usage import (
    OUTSIDE,
    HeldCount,
    HeldEvent,
    OutsideEvent,
    Trouble,
)
from shared.db.database import Connection, Row
from shared.ids import UserId, first_id_at
from shared.tiers import tier_named

# What one report puts right, another may hold at the same time, each with the rows of the other.
_TAKE_TURN = "select pg_advisory_xact_lock_shared(4249, hashtext($1))"
_TAKE_TURN_ALONE = "select pg_advisory_xact_lock(4249, hashtext($1))"

# In the order of the keys, so that two reports of the same events never wait in a circle.
_NOTE = """
insert into outside_event (reporter_id, source, external_id, event_id, digest)
select $1, * from unnest($2::text[], $3::text[], $4::uuid[], $5::bytea[])
    as given (source, external_id, event_id, digest)
order by source, external_id
on conflict do nothing
returning source, external_id
"""
# A statement of its own: it sees what somebody else wrote while the one above waited for them.
_KNOWN = """
select source, external_id, digest from outside_event
join unnest($2::text[], $3::text[]) as asked (source, external_id) using (source, external_id)
where reporter_id = $1
"""
# After all keys, and in an order of its own: who waits here holds nothing that is waited for above.
_NOTE_CONTENT = """
insert into outside_content (content, event_id)
select * from unnest($1::bytea[], $2::uuid[]) as given (content, event_id) order by content
on conflict do nothing
returning content
"""
_IS_ENTRY_OF = """
update outside_event o set event_id = c.event_id
from unnest($2::text[], $3::text[], $4::bytea[]) as given (source, external_id, content)
join outside_content c using (content)
where o.reporter_id = $1 and o.source = given.source and o.external_id = given.external_id
"""
_SETTLE_HELD = """
update held_usage h set settled_at = now()
from unnest($2::text[], $3::text[]) as given (source, external_id)
where h.reporter_id = $1 and h.source = given.source and h.external_id = given.external_id
  and h.settled_at is null
"""

# Whether it is in the archive, nobody could tell; the database refuses it for that.
_TOO_LATE = """
select given.source, given.external_id
from unnest($2::text[], $3::text[], $4::uuid[], $5::bytea[])
    as given (source, external_id, event_id, content)
where exists (
    select 1 from ledger_archive a
    where a.state = 'dropped' and given.event_id >= a.begins and given.event_id < a.ends
) and not exists (
    select 1 from outside_event known where known.reporter_id = $1
      and known.source = given.source and known.external_id = given.external_id
) and not exists (select 1 from outside_content known where known.content = given.content)
"""
_KEEP_METADATA = """
insert into usage_metadata (event_id, user_id, metadata)
select * from unnest($1::uuid[], $2::uuid[], $3::jsonb[])
    as given (event_id, user_id, metadata)
where not exists (select 1 from gone_user gone where gone.user_id = given.user_id)
on conflict do nothing
"""
# Reports come days late, and nobody would look for what they bring then.
_NOTE_GONE = "insert into gone_user (user_id) values ($1) on conflict do nothing"
_FORGET = """
delete from usage_metadata where event_id in (
    select event_id from usage_metadata where user_id = $1 limit $2
) returning event_id
"""
_FORGET_HELD = """
update held_usage set body = body #- '{data,metadata}'
where (reporter_id, source, external_id) in (
    select reporter_id, source, external_id from held_usage
    where body ->> 'subject' = $1::text and body #> '{data,metadata}' is not null limit $2
) returning source
"""

# What somebody has refused is not held anew because it is told again. What is said beside the facts
# makes no difference: it goes with its user, and its reporter knows nothing of that.
_HOLD = """
insert into held_usage (reporter_id, source, external_id, code, meter, body, occurred_at)
select distinct on (source, external_id) $1, source, external_id, code, meter,
    case when exists (select 1 from gone_user gone where gone.user_id = given.user_id)
        then body #- '{data,metadata}' else body end,
    occurred_at
from unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::timestamptz[], $8::uuid[]
) as given (source, external_id, code, meter, body, occurred_at, user_id)
order by source, external_id
on conflict (reporter_id, source, external_id) do update set
    code = excluded.code, meter = excluded.meter, body = excluded.body,
    occurred_at = excluded.occurred_at, settled_at = null, refused_by = null, refused_because = null
where held_usage.refused_by is null
   or held_usage.body #- '{data,metadata}' is distinct from excluded.body #- '{data,metadata}'
"""

_HELD = """
select code, meter, count(*) as events from held_usage where settled_at is null
group by code, meter order by code, meter
"""

_HELD_EVENTS = """
select reporter_id, source, external_id, code, meter, occurred_at, held_at,
       body #- '{data,metadata}' as body
from held_usage where settled_at is null and (reporter_id, source, external_id) > ($1, $2, $3)
order by reporter_id, source, external_id limit $4
"""
_HELD_OF = """
select reporter_id, source, external_id, code, meter, occurred_at, held_at, body
from held_usage
where body ->> 'subject' = $1 and (reporter_id, source, external_id) > ($2, $3, $4)
order by reporter_id, source, external_id limit $5
"""
_REFUSE_HELD = """
update held_usage set settled_at = now(), refused_by = $4, refused_because = $5
where reporter_id = $1 and source = $2 and external_id = $3 and settled_at is null
returning source
"""
_BEFORE_ALL = (UUID(int=0), "", "")

_MOST_LATELY = 2000
# A change holds from its moment on, whatever came after it. Who has a seat has its organisation's
# tier, and of seats auth knows alone; but chat and voice tell by which tier they served. What they
# told last counts, if it was within a day, and after the user's own last change had come to them.
# Looked for among a bounded number of entries: a machine that reports for a user each second would
# otherwise have each of its events go through all of its day, and no report be done in its time.
_TIERS = f"""
select held.tier as own, served.tier as served
from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[]) with ordinality
    as used (user_id, at, first_id, last_id, place)
left join lateral (
    select c.tier, c.changed_at from subscription_change c
    where c.user_id = used.user_id and c.changed_at <= used.at
    order by c.revision desc limit 1
) as held on true
left join lateral (
    select lately.tier from (
        select e.tier, e.producer, e.occurred_at from ledger_entry e
        where e.user_id = used.user_id and e.occurred_at <= used.at
          and e.occurred_at >= greatest(used.at - $5::interval, held.changed_at + $6::interval)
          and e.event_id between used.first_id and used.last_id
        order by e.occurred_at desc limit {_MOST_LATELY}
    ) as lately
    where not starts_with(lately.producer, '{OUTSIDE}:')
    order by lately.occurred_at desc limit 1
) as served on true
order by used.place
"""  # noqa: S608 - made of the constants
_LATELY = timedelta(days=1)
_TOLD_EVERYWHERE = timedelta(minutes=1)
# An id is made when its call begins, and clocks differ.
_LONGEST_CALL = timedelta(hours=1)


class SqlOutsideUsage:
    """Reports on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def take_turn(self, reporter: UserId, *, alone: bool) -> None:
        statement = _TAKE_TURN_ALONE if alone else _TAKE_TURN
        await self._connection.execute(statement, str(reporter))

    async def note(
        self, reporter: UserId, events: Sequence[OutsideEvent]
    ) -> Mapping[tuple[str, str], bytes]:
        if not events:
            return {}
        sources, ids = [e.source for e in events], [e.external_id for e in events]
        rows = await self._connection.fetch(
            _NOTE,
            reporter,
            sources,
            ids,
            [e.event_id for e in events],
            [e.digest for e in events],
        )
        new = {(row["source"], row["external_id"]) for row in rows}
        told = await self._told_by_others(reporter, [e for e in events if e.key in new])
        await self._connection.execute(_SETTLE_HELD, reporter, sources, ids)
        if len(new) == len(events):
            return told
        known = await self._known(reporter, sources, ids)
        return {key: digest for key, digest in known.items() if key not in new} | told

    async def _known(
        self, reporter: UserId, sources: Sequence[str], ids: Sequence[str]
    ) -> dict[tuple[str, str], bytes]:
        rows = await self._connection.fetch(_KNOWN, reporter, sources, ids)
        return {(row["source"], row["external_id"]): bytes(row["digest"]) for row in rows}

    async def _told_by_others(
        self, reporter: UserId, events: Sequence[OutsideEvent]
    ) -> dict[tuple[str, str], bytes]:
        if not events:
            return {}
        rows = await self._connection.fetch(
            _NOTE_CONTENT, [e.content for e in events], [e.event_id for e in events]
        )
        first = {bytes(row["content"]) for row in rows}
        again = [e for e in events if e.content not in first]
        if again:
            await self._connection.execute(
                _IS_ENTRY_OF,
                reporter,
                [e.source for e in again],
                [e.external_id for e in again],
                [e.content for e in again],
            )
        return {e.key: e.digest for e in again}

    async def counted(
        self, reporter: UserId, events: Sequence[OutsideEvent]
    ) -> Mapping[tuple[str, str], bytes]:
        return await self._known(
            reporter, [e.source for e in events], [e.external_id for e in events]
        )

    async def too_late(
        self, reporter: UserId, events: Sequence[OutsideEvent]
    ) -> Collection[tuple[str, str]]:
        rows = await self._connection.fetch(
            _TOO_LATE,
            reporter,
            [e.source for e in events],
            [e.external_id for e in events],
            [e.event_id for e in events],
            [e.content for e in events],
        )
        return {(row["source"], row["external_id"]) for row in rows}

    async def keep_metadata(self, events: Sequence[OutsideEvent]) -> None:
        told = [event for event in events if event.metadata]
        if told:
            await self._connection.execute(
                _KEEP_METADATA,
                [event.event_id for event in told],
                [event.user_id for event in told],
                [dict(event.metadata or {}) for event in told],
            )

    async def forget(self, user_id: UserId, *, most: int) -> bool:
        await self._connection.execute(_NOTE_GONE, user_id)
        kept = await self._connection.fetch(_FORGET, user_id, most)
        held = await self._connection.fetch(_FORGET_HELD, str(user_id), most)
        return most not in (len(kept), len(held))

    async def hold(
        self, reporter: UserId, held: Sequence[tuple[OutsideEvent, Trouble, Mapping[str, Any]]]
    ) -> None:
        if not held:
            return
        await self._connection.execute(
            _HOLD,
            reporter,
            [event.source for event, _, _ in held],
            [event.external_id for event, _, _ in held],
            [trouble.code for _, trouble, _ in held],
            [event.meter for event, _, _ in held],
            [dict(body) for _, _, body in held],
            [event.occurred_at for event, _, _ in held],
            [event.user_id for event, _, _ in held],
        )

    async def held(self) -> Sequence[HeldCount]:
        rows = await self._connection.fetch(_HELD)
        return [HeldCount(row["code"], row["meter"], row["events"]) for row in rows]

    async def held_events(
        self, *, after: tuple[UUID, str, str] | None, most: int
    ) -> Sequence[HeldEvent]:
        rows = await self._connection.fetch(_HELD_EVENTS, *(after or _BEFORE_ALL), most)
        return [_held(row) for row in rows]

    async def held_of(
        self, user_id: UserId, *, after: tuple[UUID, str, str] | None, most: int
    ) -> Sequence[HeldEvent]:
        place = after or _BEFORE_ALL
        rows = await self._connection.fetch(_HELD_OF, str(user_id), *place, most)
        return [_held(row) for row in rows]

    async def refuse_held(
        self, reporter: UserId, key: tuple[str, str], *, by: UserId, reason: str
    ) -> bool:
        row = await self._connection.fetchrow(_REFUSE_HELD, reporter, *key, by, reason)
        return row is not None

    async def tiers_of(self, events: Sequence[OutsideEvent]) -> Sequence[str | None]:
        rows = await self._connection.fetch(
            _TIERS,
            [e.user_id for e in events],
            [e.occurred_at for e in events],
            [first_id_at(e.occurred_at - _LATELY - _LONGEST_CALL) for e in events],
            [first_id_at(e.occurred_at + _LONGEST_CALL) for e in events],
            _LATELY,
            _TOLD_EVERYWHERE,
        )
        return [_higher(row["own"], row["served"]) for row in rows]

    async def held_between(self, begins: datetime, ends: datetime) -> int:
        row = await self._connection.fetchrow(
            "select count(*) as events from held_usage"
            " where settled_at is null and occurred_at >= $1 and occurred_at < $2",
            begins,
            ends,
        )
        return int(row["events"]) if row else 0


def _held(row: Row) -> HeldEvent:
    return HeldEvent(
        UserId(row["reporter_id"]),
        row["source"],
        row["external_id"],
        row["code"],
        row["meter"],
        row["occurred_at"],
        row["held_at"],
        row["body"],
    )


def _higher(*tiers: str | None) -> str | None:
    known = [tier for tier in tiers if tier is not None]
    return max(known, key=lambda name: tier_named(name).rank) if known else None
