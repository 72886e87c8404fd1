"""The relay's side of the outbox: claim a batch under a lease, mark it sent, or give it back.

Claimed by state, with SKIP LOCKED, so that any number of relays may work on one outbox. A sequence
number, once given, stays with its row: a batch that is sent again carries the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from shared.values import dataclass

# After an outage millions may wait, and this is asked some times a second: it goes from name to
# name along the index (https://wiki.postgresql.org/wiki/Loose_indexscan), and looks at no more of a
# stream than one batch takes.
_STREAMS = text("""
with recursive streams as (
    (select stream from outbox order by stream limit 1)
    union all
    select (select o.stream from outbox o where o.stream > s.stream order by o.stream limit 1)
    from streams s where s.stream is not null
)
select s.stream, next.waiting from streams s cross join lateral (
    select count(*) as waiting, min(created_at) as oldest from (
        select o.created_at from outbox o
        where o.stream = s.stream and (o.leased_until is null or o.leased_until < now())
        order by o.sequence nulls last, o.created_at
        limit :most
    ) as batch
) as next
where next.waiting > 0 order by next.oldest
""")

# Numbers come from the stream's row, which one claim at a time can move on, with as many as there
# are rows without one: they are given once and without a gap.
_CLAIM = text("""
with picked as (
    select event_id, sequence, created_at from outbox
    where stream = :stream and (leased_until is null or leased_until < now())
    order by sequence nulls last, created_at
    limit :most
    for update skip locked
), numbered as (
    select event_id, row_number() over (order by created_at, event_id) as position,
           count(*) over () as given
    from picked where sequence is null
), stream as (
    insert into outbox_stream as s (stream, last_sequence)
    select :stream, count(*) filter (where sequence is null) from picked having count(*) > 0
    on conflict (stream) do update set last_sequence = s.last_sequence + excluded.last_sequence
    returning epoch, last_sequence
), leased as (
    update outbox o set
        leased_until = now() + make_interval(secs => :lease_seconds),
        attempts = attempts + 1,
        sequence = coalesce(o.sequence, s.last_sequence - n.given + n.position)
    from stream s, picked p left join numbered n using (event_id)
    where o.event_id = p.event_id
    returning o.event_id, o.sequence, o.envelope
)
select event_id, sequence, envelope, epoch from leased cross join stream order by sequence
""")

_MARK_SENT = text("""
with done as (
    delete from outbox where event_id = any(:ids)
    returning stream, sequence, event_id, envelope, created_at
)
insert into outbox_sent (stream, sequence, event_id, envelope, created_at)
select stream, sequence, event_id, envelope, created_at from done
on conflict (stream, sequence) do nothing
""")

_RELEASE = text("update outbox set leased_until = null where event_id = any(:ids)")

# Every stream that there ever was: of one at rest, how much was written matters too.
_BACKLOG = text("""
select stream, coalesce(w.waiting, 0), coalesce(w.oldest_seconds, 0),
       coalesce(s.last_sequence, 0) + coalesce(w.unnumbered, 0)
from outbox_stream s full join (
    select stream, count(*) as waiting, count(*) filter (where sequence is null) as unnumbered,
           extract(epoch from now() - min(created_at))::float as oldest_seconds
    from outbox group by stream
) as w using (stream)
""")
_DEAD = text("select count(*) from dead_event where replayed_at is null")


@dataclass(frozen=True, slots=True)
class Claimed:
    """One event of a batch, with its number."""

    event_id: UUID
    sequence: int
    envelope: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one message will carry: events of one stream, ordered by their numbers."""

    stream: str
    epoch: UUID
    events: tuple[Claimed, ...]

    @property
    def ids(self) -> list[UUID]:
        return [event.event_id for event in self.events]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in one stream; its age is the number to alarm on."""

    stream: str
    waiting: int
    oldest_seconds: float
    written: int  # since the stream began, sent or not


def waiting_streams(engine: Engine, *, most: int) -> dict[str, int]:
    """Streams with something to send and how much that is, counted up to `most`; the one whose next
    batch waits longest first."""
    with engine.begin() as connection:
        rows = connection.execute(_STREAMS, {"most": most})
        return {row.stream: row.waiting for row in rows}


def claim(engine: Engine, stream: str, *, most: int, lease: timedelta) -> Batch | None:
    """Take up to `most` events of the stream under a lease; None when another relay has them."""
    values = {"stream": stream, "most": most, "lease_seconds": lease.total_seconds()}
    with engine.begin() as connection:
        rows = connection.execute(_CLAIM, values).all()
    events = tuple(Claimed(row.event_id, row.sequence, row.envelope) for row in rows)
    return Batch(stream, rows[0].epoch, events) if rows else None


def mark_sent(engine: Engine, batch: Batch) -> None:
    """Move the batch to the archive: the broker has confirmed it."""
    with engine.begin() as connection:
        connection.execute(_MARK_SENT, {"ids": batch.ids})


def release(engine: Engine, batch: Batch) -> None:
    """Give the batch back: it could not be sent."""
    with engine.begin() as connection:
        connection.execute(_RELEASE, {"ids": batch.ids})


def backlog(engine: Engine) -> Sequence[Backlog]:
    """What waits in each stream, be it nothing."""
    with engine.begin() as connection:
        return [Backlog(*row) for row in connection.execute(_BACKLOG).all()]


def dead_events(engine: Engine) -> int:
    """How many events of this service were put aside and not sent in again."""
    with engine.begin() as connection:
        return int(connection.execute(_DEAD).scalar_one())
