"""The archive of sent events, as the service itself reads it: what a consumer lost is in here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared.db.database import Database, Row
from shared.events.usage import UsageSums
from shared.values import dataclass

# The epoch guards against numbers of another life of this database.
_SEND_AGAIN = """
with again as (
    delete from outbox_sent s using outbox_stream t
    where t.stream = s.stream and t.epoch = $2 and s.stream = $1
      and s.sequence between $3 and $4
    returning s.stream, s.sequence, s.event_id, s.envelope, s.created_at
), queued as (
    insert into outbox (stream, sequence, event_id, envelope, created_at)
    select stream, sequence, event_id, envelope, created_at from again
    on conflict do nothing
)
select count(*) as found from again
"""

_STREAMS = """
select stream, epoch, last_sequence from outbox_stream
where starts_with(stream, $1) order by stream
"""

# Also a stream along which nothing was sent yet: "nothing" is something to be told of.
_BEGIN_STREAM = "insert into outbox_stream (stream) values ($1) on conflict do nothing"

_PATIENCE_SECONDS = 300.0

_COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
)


def ids_digest(column: str) -> str:
    """SQL for the exclusive or of the digests of ids: the same in whatever order they come."""
    number = f"('x' || substr(md5({column}::text), %d, 16))::bit(64)::bigint"
    half = f"to_hex(coalesce(bit_xor({number}), 0))"
    return f"lpad({half % 1}, 16, '0') || lpad({half % 17}, 16, '0')"


_MOMENT = "select now() as moment"

# What waits to be sent touches its hour at every moment until it is.
_TOUCHED = """
select stream, date_trunc('hour', (envelope ->> 'time')::timestamptz, 'UTC') as hour,
       max(sent_at) as at
from (
    select stream, envelope, sent_at from outbox_sent
    where sent_at >= $2 and stream = any(array(
        select stream from outbox_stream where starts_with(stream, $1)
    ))
    union all
    select stream, envelope, now() from outbox where starts_with(stream, $1)
) as lately
group by 1, 2 order by 2 desc limit $3
"""

_TOLD = """
select envelope -> 'data' ->> 'stream' as stream,
       (envelope -> 'data' ->> 'hour')::timestamptz as hour, max(created_at) as at
from (
    select envelope, created_at from outbox_sent where stream = any($1)
    union all
    select envelope, created_at from outbox where stream = any($1)
) as manifests
where envelope -> 'data' ->> 'hour' is not null
group by 1, 2
"""

# What is on its way counts too: it was used. The index has `sent_at` after the stream, and nothing
# is sent long before it happens, however wrong the clocks are.
_SUMS = f"""
select stream, hour, count(*) as events, {ids_digest("event_id")} as ids,
       {", ".join(f"coalesce(sum({name}), 0)::text as {name}" for name in _COUNTS)}
from (
    select stream, event_id,
           date_trunc('hour', (envelope ->> 'time')::timestamptz, 'UTC') as hour,
           {", ".join(f"(envelope -> 'data' ->> '{name}')::numeric as {name}" for name in _COUNTS)}
    from (
        select stream, event_id, envelope from outbox_sent
        where sent_at >= $2::timestamptz - interval '1 hour' and stream = any($1)
        union all
        select stream, event_id, envelope from outbox where stream = any($1)
    ) as everything
) as known
group by stream, hour
"""  # noqa: S608 - made of the names above

# From name to name along the index: most of the archive is one stream of usage.
_SENT_STREAMS = """
with recursive streams as (
    (select stream from outbox_sent order by stream limit 1)
    union all
    select (select o.stream from outbox_sent o where o.stream > s.stream order by o.stream limit 1)
    from streams s where s.stream is not null
)
select stream from streams where stream is not null
"""

# From place to place in the index `(stream, sent_at)`: a comparison of rows needs no other row. By
# `stream = $1` alone the planner prefers the index of the age, with what everybody else sent.
_FORGET_SENT = """
delete from outbox_sent where ctid = any(array(
    select ctid from outbox_sent
    where stream >= $1 and (stream, sent_at) < ($1, now() - $2::interval)
    order by stream, sent_at limit $3
))
"""
# No other index has this order by itself, whatever the planner believes of the table.
_WITHOUT_SORTING = """
select set_config('enable_sort', 'off', true), set_config('enable_incremental_sort', 'off', true)
"""

_TOLD_LATELY = """
select exists (
    select 1 from outbox_sent where stream = $1 and sent_at > now() - $2::interval
      and envelope -> 'data' ->> 'hour' is not null
) as found
"""

_FORGET_HANDLED = """
delete from inbox where event_id in (
    select event_id from inbox where handled_at < now() - $1::interval
    order by handled_at limit $2
)
"""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """A stream and the last number given along it."""

    stream: str
    epoch: UUID
    last_sequence: int


async def send_again(database: Database, stream: str, epoch: UUID, *, first: int, last: int) -> int:
    """Queue a range of the archive for another send; answers how many were found."""
    row = await database.fetchrow(_SEND_AGAIN, stream, epoch, first, last)
    await database.wake_relay()
    return int(row["found"]) if row else 0


async def stream_ends(database: Database, prefix: str) -> Sequence[StreamEnd]:
    """How far the streams have come whose names begin with `prefix`."""
    rows = await database.fetch(_STREAMS, prefix)
    return [StreamEnd(row["stream"], row["epoch"], row["last_sequence"]) for row in rows]


async def begin_stream(database: Database, stream: str) -> None:
    """Let a stream exist, from its number 0 on."""
    await database.execute(_BEGIN_STREAM, stream)


async def moment(database: Database) -> datetime:
    """What time it is for the archive: by the same clock it notes when something was sent."""
    row = await database.fetchrow(_MOMENT)
    assert row is not None
    now: datetime = row["moment"]
    return now


async def hours_touched(
    database: Database, prefix: str, *, since: datetime, most: int
) -> dict[tuple[str, datetime], datetime]:
    """Of which streams and hours something was sent lately, or waits to be sent, and when."""
    rows = await _patiently(database, _TOUCHED, prefix, since, most)
    return {(row["stream"], row["hour"]): row["at"] for row in rows}


async def hours_told(
    database: Database, manifests: Sequence[str]
) -> dict[tuple[str, datetime], datetime]:
    """Of which streams and hours these streams of manifests told, and when the last time: as far
    back as manifests are kept."""
    rows = await database.fetch(_TOLD, manifests)
    return {(row["stream"], row["hour"]): row["at"] for row in rows}


async def sums_by_hour(
    database: Database, hours: Sequence[tuple[str, datetime]]
) -> dict[tuple[str, datetime], UsageSums]:
    """What happened along streams in these hours; nothing at all is left out."""
    streams = sorted({stream for stream, _ in hours})
    rows = await _patiently(database, _SUMS, streams, min(hour for _, hour in hours))
    return {
        (row["stream"], row["hour"]): UsageSums(
            events=row["events"], ids=row["ids"], **{name: int(row[name]) for name in _COUNTS}
        )
        for row in rows
    }


async def _patiently(database: Database, sql: str, *values: Any) -> list[Row]:
    """An hour may hold millions of events, and nobody waits for what is told of it."""
    async with database.connection() as connection:
        return list(await connection.fetch(sql, *values, timeout=_PATIENCE_SECONDS))


async def sent_streams(database: Database) -> Sequence[str]:
    """The streams of which something is kept."""
    return [row["stream"] for row in await database.fetch(_SENT_STREAMS)]


async def forget_sent(database: Database, stream: str, older_than: timedelta, *, most: int) -> int:
    """Drop events of a stream that were sent long ago; answers how many."""
    async with database.connection() as connection, connection.transaction():
        await connection.execute(_WITHOUT_SORTING)
        return _count(await connection.execute(_FORGET_SENT, stream, older_than, most))


async def told_lately(database: Database, stream: str, within: timedelta) -> bool:
    """Whether this stream of manifests told of an hour lately."""
    row = await database.fetchrow(_TOLD_LATELY, stream, within)
    return row is not None and bool(row["found"])


async def forget_handled(database: Database, older_than: timedelta, *, most: int) -> int:
    """Drop the ids of events that were handled long ago."""
    return _count(await database.execute(_FORGET_HANDLED, older_than, most))


def _count(command_tag: str) -> int:
    return int(command_tag.rpartition(" ")[2])
