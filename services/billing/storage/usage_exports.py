"""Which exports were asked for, and which days lie at which target."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from services.billing.domain.period import Period
from services.billing.domain.usage_export import Day, DayState, ExportId, UsageExport
from shared.db.database import Connection, Row
from shared.ids import UserId

_ADD = """
insert into usage_export (id, asked_by, asked_at, begins, ends, format)
values ($1, $2, $3, $4, $5, $6)
"""
_GET = "select * from usage_export where id = $1"
_NEWEST = """
select * from usage_export where $1::uuid is null or id < $1 order by id desc limit $2
"""
# From one chain to the next by the index: the links of a day are many.
_CHAINS = """
with recursive chains as (
    select min(chain) as chain from ledger_link where chain >= 0
    union all
    select (select min(l.chain) from ledger_link l where l.chain > c.chain)
    from chains c where c.chain is not null
)
select chain from chains where chain is not null and chain <= $1
union
select generate_series(first_chain, least(last_chain, $1))
from ledger_archive where state = 'dropped' and first_chain >= 0
"""
_FIRST = "select min(day) as day from usage_export_day where target = $1 and revision > 0"
_STATES = """
select given.day, coalesce(
           (select l.last_sequence || ':' || encode(substring(links from length(links) - 31), 'hex')
            from ledger_link l where l.chain = given.chain
            order by l.first_sequence desc limit 1),
           (select a.summary -> 'heads' ->> given.chain::text from ledger_archive a
            where a.state = 'dropped' and given.chain between a.first_chain and a.last_chain)
       ) as head,
       (select count(*) from ledger_correction c
        where c.event_id >= given.first_id and c.event_id < given.end_id) as corrections,
       coalesce(e.revision, 0) as revision, coalesce(e.state, '') as state,
       coalesce(e.complete, false) as complete, e.checked_at
from unnest($2::date[], $3::int[], $4::uuid[], $5::uuid[]) as given (day, chain, first_id, end_id)
left join usage_export_day e on e.target = $1 and e.day = given.day
order by given.day
"""
_CLAIM = """
insert into usage_export_day as known (target, day, claimed_until) values ($1, $2, $4)
on conflict (target, day) do update set claimed_until = $4
    where (known.claimed_until is null or known.claimed_until < $3)
      and known.revision = $5 and known.checked_at is not distinct from $6
returning target
"""
_KEEP_CLAIM = "update usage_export_day set claimed_until = $3 where target = $1 and day = $2"
_FINISH = """
update usage_export_day set revision = $3, state = $4, complete = $5, rows = $6,
    exported_at = $7, checked_at = $7, claimed_until = null, failed_at = null
where target = $1 and day = $2
"""
_CHECKED = """
update usage_export_day set checked_at = $3, claimed_until = null where target = $1 and day = $2
"""
_FAILED = """
update usage_export_day set failed_at = $3, claimed_until = null where target = $1 and day = $2
"""
_LAST = """
select max(day) filter (where revision > 0) as day,
       count(*) filter (where failed_at is not null) as failing
from usage_export_day where target = $1
"""
_PATIENCE_SECONDS = 600.0
_FIRST_DAY = date(1970, 1, 1)


class SqlUsageExports:
    """Exports on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, export: UsageExport) -> None:
        period = export.period
        await self._connection.execute(
            _ADD,
            export.id,
            export.asked_by,
            export.asked_at,
            period.begins,
            period.ends,
            export.format,
        )

    async def get(self, export_id: ExportId) -> UsageExport | None:
        row = await self._connection.fetchrow(_GET, export_id)
        return _from_row(row) if row else None

    async def newest(self, *, before: ExportId | None, most: int) -> Sequence[UsageExport]:
        return [_from_row(row) for row in await self._connection.fetch(_NEWEST, before, most)]

    async def days(self, target: str, *, until: Day) -> Sequence[DayState]:
        rows = await self._connection.fetch(_CHAINS, until.chain)
        found = {_FIRST_DAY + timedelta(days=row["chain"]) for row in rows}
        first = await self._connection.fetchrow(_FIRST, target)
        one = (first["day"] if first else None) or until.date
        while one <= until.date:
            found.add(one)
            one += timedelta(days=1)
        days = [Day(day) for day in sorted(found)]
        states = await self._connection.fetch(
            _STATES,
            target,
            [day.date for day in days],
            [day.chain for day in days],
            [day.first_id for day in days],
            [day.end_id for day in days],
            timeout=_PATIENCE_SECONDS,
        )
        return [_state(row) for row in states]

    async def claim(self, target: str, state: DayState, *, now: datetime, until: datetime) -> bool:
        row = await self._connection.fetchrow(
            _CLAIM, target, state.day.date, now, until, state.revision, state.checked_at
        )
        return row is not None

    async def keep_claim(self, target: str, day: Day, *, until: datetime) -> None:
        await self._connection.execute(_KEEP_CLAIM, target, day.date, until)

    async def finish(
        self, target: str, state: DayState, *, complete: bool, rows: int, at: datetime
    ) -> None:
        await self._connection.execute(
            _FINISH,
            target,
            state.day.date,
            state.revision + 1,
            state.content,
            complete,
            rows,
            at,
        )

    async def checked(self, target: str, day: Day, *, at: datetime) -> None:
        await self._connection.execute(_CHECKED, target, day.date, at)

    async def failed(self, target: str, day: Day, *, at: datetime) -> None:
        await self._connection.execute(_FAILED, target, day.date, at)

    async def last_day(self, target: str) -> tuple[Day | None, int]:
        row = await self._connection.fetchrow(_LAST, target)
        if row is None or row["day"] is None:
            return None, row["failing"] if row else 0
        return Day(row["day"]), row["failing"]


def _from_row(row: Row) -> UsageExport:
    return UsageExport(
        id=ExportId(row["id"]),
        asked_by=UserId(row["asked_by"]),
        asked_at=row["asked_at"],
        period=Period(row["begins"], row["ends"]),
        format=row["format"],
    )


def _state(row: Row) -> DayState:
    return DayState(
        day=Day(row["day"]),
        head=row["head"],
        corrections=row["corrections"],
        revision=row["revision"],
        exported=row["state"],
        complete=row["complete"],
        checked_at=row["checked_at"],
    )
