"""The ledger, and what its hourly sums tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
from asyncpg.pgproto import pgproto

from services.billing.domain.ledger import Counts, Entry, Place, Rating
from services.billing.domain.period import Period
from services.billing.domain.ports import Position, RecordedBefore
from services.billing.domain.usage_columns import Run, UsageColumns
from services.billing.domain.usage_report import Dimension, Group, Sums
from services.billing.storage.ledger_columns import (
    COUNTS,
    FACTS,
    OWN,
    SHARED,
    split,
    unnested,
)
from services.billing.storage.ledger_copy import COLUMNS, Raw, rows_of
from services.billing.storage.ledger_marks import marks_of
from shared.db.database import Connection, Row
from shared.ids import EventId, UserId
from shared.money import MicroDollars

# A rating that is not later than its row was given with it. A clock may go back between the two.
_NO_LATER_THAN_THE_ROW = "least(now(), statement_timestamp())"
# `fresh` are the rows that were really added.
_RECORD = f"""
with fresh as (
    insert into ledger_entry ({", ".join(FACTS)}, pricing_status, rated_at)
    select {", ".join(FACTS)},
           case when cost_microusd is null then 'unknown_price' else 'rated' end,
           case when cost_microusd is null then null else {_NO_LATER_THAN_THE_ROW} end
    from {unnested(OWN, SHARED)}
    order by event_id
    on conflict (event_id) do nothing
    returning event_id
), noted as (
    insert into ledger_uncounted (ids) select array_agg(event_id) from fresh having count(*) > 0
)
select count(*) as added from fresh
"""  # noqa: S608 - made of the names above

# The row's moment is one after the lock that COPY will need: who holds up the intake to count a
# month meets no row that claims to be of before.
_BEGIN_COPY = """
with locked as (delete from ledger_entry where false)
select now() as rated_at, clock_timestamp() as received_at
"""


# For places that are given as arrays from this parameter on.
def _noted_places(first: int) -> str:
    kinds = ("text", "uuid", "text", "bigint", "bigint")
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(kinds, first))
    return f"""
    insert into usage_stream as known (producer, epoch, stream, received)
    select producer, epoch, stream, range_agg(int8range(first, last, '[]'))
    from unnest({arrays}) as given (producer, epoch, stream, first, last)
    group by 1, 2, 3
    order by 1, 2, 3
    on conflict (producer, epoch, stream) do update set
        received = known.received + excluded.received, last_seen_at = now()
    """  # noqa: S608 - made of constants


# Also for events that came before: they have come.
_NOTE_PLACES = _noted_places(1)

# All of what was copied was added. So what waits for its link, and its hours and day with it, is
# told, and not looked for. Batches share the row of their stream, which is locked last.
_TAKE_IN_COPIED = f"""
with noted as (insert into ledger_uncounted (ids, marks) values ($1::uuid[], $2))
{_noted_places(3)}
"""  # noqa: S608 - made of constants

_GET = """
select e.*, m.metadata from ledger_entry e left join usage_metadata m using (event_id)
where event_id = $1
"""

_OF_USER = """
select e.*, m.metadata from ledger_entry e left join usage_metadata m using (event_id)
where e.user_id = $1 and occurred_at >= $2 and occurred_at < $3
order by occurred_at desc, event_id desc
limit $4
"""
_OF_USER_AFTER = """
select e.*, m.metadata from ledger_entry e left join usage_metadata m using (event_id)
where e.user_id = $1 and occurred_at >= $2 and occurred_at < $3
  and (occurred_at, event_id) < ($5, $6)
order by occurred_at desc, event_id desc
limit $4
"""

_DIMENSIONS = {
    Dimension.DAY: "(hour at time zone 'UTC')::date",
    Dimension.PROVIDER: "provider",
    Dimension.MODEL: "model",
    Dimension.OPERATION: "operation",
}


class SqlLedger:
    """The ledger on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def record(self, entries: Sequence[Entry]) -> int:
        return await self.record_columns(UsageColumns.of(entries)) if entries else 0

    async def record_columns(self, usage: UsageColumns) -> int:
        row = await self._connection.fetchrow(_RECORD, *split(usage, OWN, SHARED))
        await self._note_places(usage)
        return int(row["added"]) if row else 0

    async def add_columns(self, usage: UsageColumns) -> int:
        begun = await self._connection.fetchrow(_BEGIN_COPY)
        assert begun is not None
        received_at = begun["received_at"]
        raw = Raw.of(usage, received_at=received_at, rated_at=min(begun["rated_at"], received_at))
        rows = rows_of(usage, raw)
        try:
            # Plain bytes would be taken for the path of a file.
            await self._connection.copy_to_table(
                "ledger_entry", source=memoryview(rows), columns=COLUMNS, format="binary"
            )
        except asyncpg.UniqueViolationError as error:
            raise RecordedBefore from error
        # Giving ids to the driver costs more than anything that is done with them here: they are
        # given as its own, which it asks the least.
        ids = list(map(pgproto.UUID, sorted(usage.event_id)))
        places = _columns(usage.runs) or ([],) * len(Run._fields)
        await self._connection.execute(_TAKE_IN_COPIED, ids, marks_of(usage, raw), *places)
        return len(ids)

    async def _note_places(self, usage: UsageColumns) -> None:
        if runs := usage.runs:
            await self._connection.execute(_NOTE_PLACES, *_columns(runs))

    async def get(self, event_id: EventId) -> Entry | None:
        row = await self._connection.fetchrow(_GET, event_id)
        return _with_metadata(row) if row else None

    async def of_user(
        self, user_id: UserId, *, period: Period, after: Position | None, most: int
    ) -> Sequence[Entry]:
        values = (user_id, period.begins, period.ends, most)
        if after is None:
            rows = await self._connection.fetch(_OF_USER, *values)
        else:
            rows = await self._connection.fetch(_OF_USER_AFTER, *values, *after)
        return [_with_metadata(row) for row in rows]

    async def report(
        self,
        user_id: UserId,
        period: Period,
        dimensions: Sequence[Dimension],
        *,
        sandbox: bool | None,
    ) -> Sequence[Group]:
        rows = await self._connection.fetch(
            _report(dimensions), user_id, period.begins, period.ends, sandbox
        )
        return [_group(row, dimensions) for row in rows if row["requests"]]


def _report(dimensions: Sequence[Dimension]) -> str:
    keys = [f"{_DIMENSIONS[dimension]} as {dimension}" for dimension in dimensions]
    numbers = ", ".join(str(number) for number in range(1, len(keys) + 1))
    sums = ("requests", "unpriced_requests", *COUNTS, "cost_microusd")
    # An hour may know of what was taken back before it knows of the entry.
    return f"""
    select {", ".join([*keys, *(f"greatest(sum({name}), 0) as {name}" for name in sums)])}
    from usage_hour
    where user_id = $1 and hour >= $2 and hour < $3 and ($4::boolean is null or sandbox = $4)
    {f"group by {numbers} order by {numbers}" if keys else ""}
    """  # noqa: S608 - made of the names above


def _group(row: Row, dimensions: Sequence[Dimension]) -> Group:
    sums = Sums(
        requests=int(row["requests"]),
        unpriced_requests=int(row["unpriced_requests"]),
        **{name: int(row[name]) for name in COUNTS},
        known_cost=int(row["cost_microusd"]),
    )
    return Group(tuple((dimension, row[dimension]) for dimension in dimensions), sums)


def _columns(rows: Iterable[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))


def _with_metadata(row: Row) -> Entry:
    entry = from_row(row)
    return entry if row["metadata"] is None else replace(entry, metadata=row["metadata"])


def from_row(row: Row) -> Entry:
    """An entry out of a row of `ledger_entry`."""
    return Entry(
        event_id=EventId(row["event_id"]),
        user_id=UserId(row["user_id"]),
        tier=row["tier"],
        operation=row["operation"],
        provider=row["provider"],
        model=row["model"],
        source=row["source"],
        outcome=row["outcome"],
        counts=Counts(**{name: row[name] for name in COUNTS}, units=row["units"]),
        unit=row["unit"],
        service_tier=row["service_tier"],
        request_id=row["request_id"],
        provider_request_id=row["provider_request_id"],
        session_id=row["session_id"],
        sandbox=row["sandbox"],
        producer=row["producer"],
        occurred_at=row["occurred_at"],
        place=_place_of(row),
        rating=_rating_of(row),
        received_at=row["received_at"],
        rated_at=row["rated_at"],
        cached=row["cached"],
        key_organisation_id=row["key_organisation_id"],
    )


def _place_of(row: Row) -> Place | None:
    if row["sequence"] is None:
        return None
    return Place(row["producer"], row["producer_epoch"], row["stream"], row["sequence"])


def _rating_of(row: Row) -> Rating | None:
    if row["cost_microusd"] is None:
        return None
    return Rating(MicroDollars(row["cost_microusd"]), row["price_version"])
