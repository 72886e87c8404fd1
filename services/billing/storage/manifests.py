"""What producers say of their hours, and what of it stands in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.billing.domain.completeness import Stream
from services.billing.domain.manifest import HourManifest, ProducerHours
from services.billing.domain.period import Period
from shared.db.archive import ids_digest
from shared.db.database import Connection, Row
from shared.events.usage import UsageSums

_COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
)

# What is said again as it was keeps its comparison; a hurrying second message changes nothing.
_NOTE = """
insert into usage_manifest as known (producer, epoch, stream, hour, announced, announced_at)
select distinct on (producer, epoch, stream, hour) *
from unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[], $5::jsonb[], $6::timestamptz[])
    as given (producer, epoch, stream, hour, announced, announced_at)
order by producer, epoch, stream, hour, announced_at desc
on conflict (producer, epoch, stream, hour) do update set
    announced = excluded.announced, announced_at = excluded.announced_at,
    compared_at = case when known.announced = excluded.announced then known.compared_at end
where excluded.announced_at > known.announced_at
"""

_SUMS = f"""
select jsonb_build_object(
    'events', count(*), 'ids', {ids_digest("event_id")},
    {", ".join(f"'{name}', coalesce(sum({name}), 0)" for name in _COUNTS)}
) as recorded
from ledger_entry e
where e.producer = m.producer and e.producer_epoch = m.epoch and e.stream = m.stream
  and e.occurred_at >= m.hour and e.occurred_at < m.hour + interval '1 hour'
"""  # noqa: S608 - made of the names above

_COMPARE = f"""
with due as (
    select * from usage_manifest
    where recorded is distinct from announced or compared_at is null
    order by compared_at nulls first, hour
    limit $1
    for update skip locked
), found as (
    select m.producer, m.epoch, m.stream, m.hour, s.recorded
    from due m cross join lateral ({_SUMS}) as s
)
update usage_manifest m set recorded = f.recorded, compared_at = clock_timestamp()
from found f
where (m.producer, m.epoch, m.stream, m.hour) = (f.producer, f.epoch, f.stream, f.hour)
returning m.recorded is distinct from m.announced as differs
"""  # noqa: S608 - made of the names above

_BY_PRODUCER = """
select producer, count(*) filter (where recorded = announced) as matched,
       count(*) filter (where recorded is distinct from announced) as mismatched
from usage_manifest where hour >= $1 and hour < $2
group by producer order by producer
"""

_MISMATCHED = """
select * from usage_manifest
where recorded is distinct from announced and hour >= $1 and hour < $2
order by hour, producer, stream limit $3
"""

# Once a month, over all of it: what the ledger has of numbered streams beside what was announced.
_HOURS_OFF = f"""
with stands as (
    select producer, producer_epoch as epoch, stream,
           date_trunc('hour', occurred_at, 'UTC') as hour,
           jsonb_build_object(
               'events', count(*), 'ids', {ids_digest("event_id")},
               {", ".join(f"'{name}', coalesce(sum({name}), 0)" for name in _COUNTS)}
           ) as recorded
    from ledger_entry
    where occurred_at >= $1 and occurred_at < $2 and sequence is not null
    group by 1, 2, 3, 4
), said as (
    select producer, epoch, stream, hour, announced
    from usage_manifest where hour >= $1 and hour < $2
)
select producer, (announced is null) as is_missing, count(*) as hours
from stands full join said using (producer, epoch, stream, hour)
where announced is null
   or announced is distinct from recorded
      and not (recorded is null and (announced ->> 'events')::bigint = 0)
group by 1, 2 order by 1, 2
"""  # noqa: S608 - made of the names above

_UNFINISHED = """
select m.producer || '/' || m.stream as name
from usage_manifest m join usage_stream s using (producer, epoch, stream)
where m.hour >= $1 and m.hour < $2 and s.last_manifest_at >= $2
group by m.producer, m.stream, m.epoch
having max(m.hour) < $2::timestamptz - interval '1 hour'
order by 1
"""

# Hours of millions of entries are read by nobody who waits.
_PATIENCE_SECONDS = 600.0


class SqlManifests:
    """Manifests of hours on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def note(self, manifests: Sequence[HourManifest]) -> None:
        if not manifests:
            return
        await self._connection.execute(
            _NOTE,
            [m.stream.producer for m in manifests],
            [m.stream.epoch for m in manifests],
            [m.stream.name for m in manifests],
            [m.hour for m in manifests],
            [m.announced.model_dump(mode="json") for m in manifests],
            [m.announced_at for m in manifests],
        )

    async def compare(self, *, most: int) -> tuple[int, int]:
        rows = await self._connection.fetch(_COMPARE, most, timeout=_PATIENCE_SECONDS)
        return len(rows), sum(1 for row in rows if row["differs"])

    async def by_producer(self, period: Period) -> Sequence[ProducerHours]:
        rows = await self._connection.fetch(_BY_PRODUCER, period.begins, period.ends)
        return [ProducerHours(r["producer"], r["matched"], r["mismatched"]) for r in rows]

    async def mismatched(self, period: Period, *, most: int) -> Sequence[HourManifest]:
        rows = await self._connection.fetch(_MISMATCHED, period.begins, period.ends, most)
        return [from_row(row) for row in rows]

    async def hours_off(self, period: Period) -> Sequence[tuple[str, bool, int]]:
        rows = await self._connection.fetch(
            _HOURS_OFF, period.begins, period.ends, timeout=_PATIENCE_SECONDS
        )
        return [(row["producer"], row["is_missing"], row["hours"]) for row in rows]

    async def unfinished(self, period: Period) -> Sequence[str]:
        rows = await self._connection.fetch(_UNFINISHED, period.begins, period.ends)
        return [row["name"] for row in rows]


def from_row(row: Row) -> HourManifest:
    """A manifest out of its row."""
    return HourManifest(
        stream=Stream(row["producer"], row["epoch"], row["stream"]),
        hour=row["hour"],
        announced_at=row["announced_at"],
        announced=_sums(row["announced"]),
        recorded=None if row["recorded"] is None else _sums(row["recorded"]),
        compared_at=row["compared_at"],
    )


def _sums(facts: Any) -> UsageSums:
    return UsageSums.model_validate(facts)
