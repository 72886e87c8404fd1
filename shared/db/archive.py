"""The archive of sent events, as the service itself reads it: what a consumer lost comes from here.

The same as `outbox.send_again` and `outbox.last_sequences`, on the service's asyncpg pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared.db.database import Database, Row
from shared.events.usage import UsageSums

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


# What waits to be sent touches its hour at every moment until it is.
_TOUCHED = """
select stream, date_trunc('hour', (envelope ->> 'time')::timestamptz, 'UTC') as hour,
       max(sent_at) as at
from (
    select stream, envelope, sent_at from outbox_sent
    where sent_at >= $2 and starts_with(stream, $1)
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

# What is on its way counts too: it was used. `sent_at` has the index, and nothing is sent long
# before it happens, however wrong the clocks are.
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

_FORGET_SENT = """
with old as (
    select stream, sequence from outbox_sent
    where sent_at < now() - $3::interval and (stream like any($1::text[])) = $2
    limit $4
)
delete from outbox_sent s using old where s.stream = old.stream and s.sequence = old.sequence
"""

_FORGET_HANDLED = """
delete from inbox where event_id in (
    select event_id from inbox where handled_at < now() - $1::interval limit $2
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


async def forget_sent(
    database: Database, prefixes: Sequence[str], older_than: timedelta, *, of_these: bool, most: int
) -> int:
    """Drop events that were sent long ago: of the streams with these prefixes, or of all others."""
    patterns = [f"{prefix}%" for prefix in prefixes]
    return _count(await database.execute(_FORGET_SENT, patterns, of_these, older_than, most))


async def forget_handled(database: Database, older_than: timedelta, *, most: int) -> int:
    """Drop the ids of events that were handled long ago."""
    return _count(await database.execute(_FORGET_HANDLED, older_than, most))


def _count(command_tag: str) -> int:
    return int(command_tag.rpartition(" ")[2])
