"""What has come of each producer's streams, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from services.billing.domain.completeness import Gap, Progress, Range, Stream
from services.billing.domain.ports import Announcement
from shared.db.database import Connection, Row

# What counts is when something was said: one that was late, or is sent again, says nothing of now.
_ANNOUNCE = """
insert into usage_stream as known (producer, epoch, stream, announced, last_manifest_at)
select producer, epoch, stream, max(last), least(max(said_at), now())
from unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[])
     as given (producer, epoch, stream, last, said_at)
group by 1, 2, 3
order by 1, 2, 3
on conflict (producer, epoch, stream) do update set
    announced = greatest(known.announced, excluded.announced),
    last_seen_at = now(),
    last_manifest_at = greatest(known.last_manifest_at, excluded.last_manifest_at)
"""

# Dead events came, too: asking for them again would only bury them again. Their envelopes are what
# could not be trusted, so nothing is cast that was not looked at.
_PROGRESS = """
with dead as (
    select producer, epoch, stream, range_agg(int8range(sequence, sequence, '[]')) as places
    from (
        select body ->> 'source' as producer,
               body ->> 'producerepoch' as epoch,
               concat(body ->> 'type', '.', body ->> 'tier') as stream,
               case when body ->> 'producerseq' ~ '^[0-9]{1,18}$'
                    then (body ->> 'producerseq')::bigint end as sequence
        from dead_event where task = 'usage.recorded' and replayed_at is null
    ) as envelope
    where sequence is not null
    group by 1, 2, 3
)
select s.*, coalesce(d.places, '{}') as dead
from usage_stream s left join dead d
     on d.producer = s.producer and d.epoch = s.epoch::text and d.stream = s.stream
order by s.producer, s.stream, s.epoch
"""

_LOCK_GAPS = "lock table usage_gap in share row exclusive mode"
_GAPS = "select * from usage_gap order by producer, stream, epoch, first_sequence"

_FORGET_GAPS = """
delete from usage_gap g where not exists (
    select 1 from unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[])
        as kept (producer, epoch, stream, first_sequence)
    where (kept.producer, kept.epoch, kept.stream, kept.first_sequence)
        = (g.producer, g.epoch, g.stream, g.first_sequence)
)
"""
_KEEP_GAPS = """
insert into usage_gap
    (producer, epoch, stream, first_sequence, last_sequence, seen_at, requests, next_request_at)
select * from unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[],
                     $6::timestamptz[], $7::int[], $8::timestamptz[])
on conflict (producer, epoch, stream, first_sequence) do update set
    last_sequence = excluded.last_sequence, requests = excluded.requests,
    next_request_at = excluded.next_request_at
"""


class SqlCompleteness:
    """Streams and gaps on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def announce(self, announcements: Sequence[Announcement]) -> None:
        await self._connection.execute(
            _ANNOUNCE,
            [a.stream.producer for a in announcements],
            [a.stream.epoch for a in announcements],
            [a.stream.name for a in announcements],
            [a.last_sequence for a in announcements],
            [a.said_at for a in announcements],
        )

    async def progress(self) -> Sequence[Progress]:
        return [_progress(row) for row in await self._connection.fetch(_PROGRESS)]

    async def gaps(self) -> Sequence[Gap]:
        await self._connection.execute(_LOCK_GAPS)
        return await self.known_gaps()

    async def known_gaps(self) -> Sequence[Gap]:
        return [_gap(row) for row in await self._connection.fetch(_GAPS)]

    async def keep_gaps(self, gaps: Sequence[Gap]) -> None:
        columns = list(zip(*map(_gap_row, gaps), strict=True)) or [()] * 8
        await self._connection.execute(_FORGET_GAPS, *columns[:4])
        await self._connection.execute(_KEEP_GAPS, *columns)


def _stream(row: Row) -> Stream:
    return Stream(row["producer"], row["epoch"], row["stream"])


def _progress(row: Row) -> Progress:
    return Progress(
        stream=_stream(row),
        received=_ranges(row["received"]),
        dead=_ranges(row["dead"]),
        announced=row["announced"],
        last_seen_at=row["last_seen_at"],
        last_manifest_at=row["last_manifest_at"],
    )


def _ranges(multirange: Iterable[Any]) -> tuple[Range, ...]:
    # PostgreSQL writes them with the upper bound excluded.
    return tuple((part.lower, part.upper - 1) for part in multirange)


def _gap(row: Row) -> Gap:
    return Gap(
        stream=_stream(row),
        first=row["first_sequence"],
        last=row["last_sequence"],
        seen_at=row["seen_at"],
        next_request_at=row["next_request_at"],
        requests=row["requests"],
    )


def _gap_row(gap: Gap) -> tuple[Any, ...]:
    return (
        gap.stream.producer,
        gap.stream.epoch,
        gap.stream.name,
        gap.first,
        gap.last,
        gap.seen_at,
        gap.requests,
        gap.next_request_at,
    )
