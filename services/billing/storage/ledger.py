"""The ledger and its hourly sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from services.billing.domain.ledger import Counts, Entry, Place, Rating
from services.billing.domain.period import Period
from services.billing.domain.ports import Position
from services.billing.domain.usage_columns import UsageColumns
from services.billing.domain.usage_report import Dimension, Group, Sums
from shared.db.database import Connection, Row
from shared.ids import EventId, UserId
from shared.money import MicroDollars

_FACTS = {
    "event_id": "uuid",
    "user_id": "uuid",
    "tier": "text",
    "operation": "text",
    "provider": "text",
    "model": "text",
    "source": "text",
    "outcome": "text",
    "input_tokens": "bigint",
    "cache_read_tokens": "bigint",
    "cache_write_tokens": "bigint",
    "output_tokens": "bigint",
    "output_reasoning_tokens": "bigint",
    "characters": "bigint",
    "service_tier": "text",
    "request_id": "text",
    "provider_request_id": "text",
    "session_id": "uuid",
    "sandbox": "boolean",
    "cached": "boolean",
    "producer": "text",
    "producer_epoch": "uuid",
    "stream": "text",
    "sequence": "bigint",
    "occurred_at": "timestamptz",
    "units": "bigint",
    "unit": "text",
    "cost_microusd": "bigint",
    "price_version": "text",
}
_COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
)
# What many entries of a batch have in common is sent once for all of them: giving a value to the
# driver costs as much as storing it.
_SHARED = (
    "tier",
    "operation",
    "provider",
    "model",
    "source",
    "outcome",
    "service_tier",
    "sandbox",
    "cached",
    "producer",
    "producer_epoch",
    "stream",
    "units",
    "unit",
    "price_version",
)
_OWN = tuple(name for name in _FACTS if name not in _SHARED)


# An array as PostgreSQL writes it costs the driver a tenth of an array of values.
def _arrays(names: Sequence[str], first: int) -> str:
    return ", ".join(f"${i}::text::{_FACTS[name]}[]" for i, name in enumerate(names, first))


_HOUR_KEY = "user_id, hour, provider, model, operation, sandbox"

# Rows in the order of their ids and sums in the order of their keys: two batches that share some
# never wait for each other in a circle. The sums see only what was really added.
_RECORD = f"""
with fresh as (
    insert into ledger_entry ({", ".join(_FACTS)}, pricing_status, rated_at)
    select {", ".join(_FACTS)},
           case when cost_microusd is null then 'unknown_price' else 'rated' end,
           case when cost_microusd is null then null else now() end
    from unnest($1::text::int[], {_arrays(_OWN, 2)}) as own (shared, {", ".join(_OWN)})
    join unnest({_arrays(_SHARED, 2 + len(_OWN))}) with ordinality
         as given ({", ".join(_SHARED)}, number) on number = shared
    order by event_id
    on conflict (event_id) do nothing
    returning event_id, user_id, occurred_at, provider, model, operation, sandbox,
              {", ".join(_COUNTS)}, cost_microusd
), counted as (
    insert into usage_hour as known
        ({_HOUR_KEY}, requests, unpriced_requests, {", ".join(_COUNTS)}, cost_microusd)
    select user_id, date_trunc('hour', occurred_at, 'UTC'), provider, model, operation, sandbox,
           count(*), count(*) filter (where cost_microusd is null),
           {", ".join(f"sum({name})" for name in _COUNTS)},
           coalesce(sum(cost_microusd), 0)
    from fresh
    group by 1, 2, 3, 4, 5, 6
    order by 1, 2, 3, 4, 5, 6
    on conflict ({_HOUR_KEY}) do update set
        requests = known.requests + excluded.requests,
        unpriced_requests = known.unpriced_requests + excluded.unpriced_requests,
        {", ".join(f"{name} = known.{name} + excluded.{name}" for name in _COUNTS)},
        cost_microusd = known.cost_microusd + excluded.cost_microusd
), noted as (
    insert into ledger_unlinked (kind, ids)
    select 'entry', array_agg(event_id) from fresh having count(*) > 0
)
select count(*) as added from fresh
"""  # noqa: S608 - made of the names above

# Also for events that came before: they have come.
_NOTE_PLACES = """
insert into usage_stream as known (producer, epoch, stream, received)
select producer, epoch, stream, range_agg(int8range(first, last, '[]'))
from unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[])
     as given (producer, epoch, stream, first, last)
group by 1, 2, 3
order by 1, 2, 3
on conflict (producer, epoch, stream) do update set
    received = known.received + excluded.received, last_seen_at = now()
"""

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
        row = await self._connection.fetchrow(_RECORD, *_record_values(usage))
        if runs := usage.runs:
            await self._connection.execute(_NOTE_PLACES, *_columns(runs))
        return int(row["added"]) if row else 0

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
    sums = ("requests", "unpriced_requests", *_COUNTS, "cost_microusd")
    return f"""
    select {", ".join([*keys, *(f"sum({name}) as {name}" for name in sums)])}
    from usage_hour
    where user_id = $1 and hour >= $2 and hour < $3 and ($4::boolean is null or sandbox = $4)
    {f"group by {numbers} order by {numbers}" if keys else ""}
    """  # noqa: S608 - made of the names above


def _group(row: Row, dimensions: Sequence[Dimension]) -> Group:
    sums = Sums(
        requests=int(row["requests"]),
        unpriced_requests=int(row["unpriced_requests"]),
        **{name: int(row[name]) for name in _COUNTS},
        known_cost=int(row["cost_microusd"]),
    )
    return Group(tuple((dimension, row[dimension]) for dimension in dimensions), sums)


def _columns(rows: Iterable[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))


def _record_values(usage: UsageColumns) -> list[Any]:
    """Which of the shared values each entry has, its own values, and the shared ones."""
    rows = list(zip(*(getattr(usage, name) for name in _SHARED), strict=True))
    numbers = {row: number for number, row in enumerate(dict.fromkeys(rows), 1)}
    return [
        _written([numbers[row] for row in rows]),
        *(_array(name, getattr(usage, name)) for name in _OWN),
        *map(_array, _SHARED, zip(*numbers, strict=True)),
    ]


def _array(name: str, values: Sequence[Any]) -> str:
    return _quoted(values) if _FACTS[name] == "text" else _written(values)


def _written(values: Sequence[Any]) -> str:
    """Numbers, ids or times as one array in PostgreSQL's own notation."""
    return f"{{{','.join(map(str, values)).replace('None', 'NULL')}}}"


def _quoted(values: Sequence[str | None]) -> str:
    """Texts as one array in PostgreSQL's own notation."""
    present = "".join([value for value in values if value is not None])
    if '"' in present or "\\" in present:
        values = [value and value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    quoted = ["NULL" if value is None else f'"{value}"' for value in values]
    return f"{{{','.join(quoted)}}}"


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
        counts=Counts(**{name: row[name] for name in _COUNTS}, units=row["units"]),
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
    )


def _place_of(row: Row) -> Place | None:
    if row["sequence"] is None:
        return None
    return Place(row["producer"], row["producer_epoch"], row["stream"], row["sequence"])


def _rating_of(row: Row) -> Rating | None:
    if row["cost_microusd"] is None:
        return None
    return Rating(MicroDollars(row["cost_microusd"]), row["price_version"])
