"""The archive of sent events, as the service itself reads it: what a consumer lost comes from here.

The same as `outbox.send_again` and `outbox.last_sequences`, on the service's asyncpg pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
