"""The archive of sent events, as the service itself reads it: what a consumer lost comes from here.

The same as `outbox.send_again` and `outbox.last_sequences`, on the service's asyncpg pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from shared.db.database import Database

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
    return int(row["found"]) if row else 0


async def stream_ends(database: Database, prefix: str) -> Sequence[StreamEnd]:
    """How far the streams have come whose names begin with `prefix`."""
    rows = await database.fetch(_STREAMS, prefix)
    return [StreamEnd(row["stream"], row["epoch"], row["last_sequence"]) for row in rows]


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
