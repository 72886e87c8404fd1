"""Corrections of ledger entries, and the hours that follow them."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.domain.correction import Corrected, Correction, Deltas
from services.billing.storage.ledger import from_row as entry_from_row
from services.billing.storage.ledger_chain import COUNTS, SUMS
from shared.db.database import Connection, Row
from shared.ids import EventId, UserId

_HOLD = """
select * from ledger_entry where event_id = any($1::uuid[]) order by event_id for update
"""
# An hour that nobody has made yet is held by making it.
_HOLD_HOURS = f"""
insert into usage_hour as known
    (user_id, hour, provider, model, operation, sandbox, {", ".join(SUMS)})
select distinct user_id, date_trunc('hour', occurred_at, 'UTC'), provider, model, operation,
       sandbox, {", ".join("0" for _ in SUMS)}
from ledger_entry where event_id = any($1::uuid[])
order by 1, 2, 3, 4, 5, 6
on conflict (user_id, hour, provider, model, operation, sandbox) do update set
    requests = known.requests
"""  # noqa: S608 - made of constants
_OF = """
select * from ledger_correction where event_id = any($1::uuid[]) order by made_at, id
"""
_KNOWN = "select id from ledger_correction where id = any($1::uuid[])"

# Rows, their note for the chain, and their hours: all of it or nothing. An hour that has not
# counted the entry yet begins with what is taken away from it. Hours come in the order of their
# keys, as when entries are counted, so that neither waits for the other for good.
_ADD = f"""
with added as (
    insert into ledger_correction (
        id, event_id, kind, user_id, requests, unpriced_requests, {", ".join(COUNTS)},
        cost_microusd, reason, made_by, source, made_at,
        provider, model, operation, sandbox, occurred_at, idempotency_key
    )
    select given.id, e.event_id, given.kind, e.user_id, given.requests, given.unpriced_requests,
           {", ".join(f"given.{name}" for name in COUNTS)}, given.cost_microusd, given.reason,
           given.made_by, given.source, given.made_at, e.provider, e.model, e.operation, e.sandbox,
           e.occurred_at, given.key
    from unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::int[],
                {", ".join(f"${number}::bigint[]" for number in range(6, 13))},
                $13::text[], $14::uuid[], $15::text[], $16::timestamptz[], $17::text[])
        as given (id, event_id, kind, requests, unpriced_requests, {", ".join(COUNTS)},
                  cost_microusd, reason, made_by, source, made_at, key)
    join ledger_entry e on e.event_id = given.event_id
    on conflict (id) do nothing
    returning *
), noted as (
    insert into ledger_unlinked (kind, ids)
    select 'correction', array_agg(id) from added having count(*) > 0
), counted as (
    insert into usage_hour as known
        (user_id, hour, provider, model, operation, sandbox, {", ".join(SUMS)})
    select user_id, date_trunc('hour', occurred_at, 'UTC'), provider, model, operation, sandbox,
           {", ".join(f"sum({name})" for name in SUMS)}
    from added
    group by 1, 2, 3, 4, 5, 6
    order by 1, 2, 3, 4, 5, 6
    on conflict (user_id, hour, provider, model, operation, sandbox) do update set
        {", ".join(f"{name} = known.{name} + excluded.{name}" for name in SUMS)}
)
select count(*) as added from added
"""  # noqa: S608 - made of constants


class SqlCorrections:
    """Corrections on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def corrected(self, event_id: EventId) -> Corrected | None:
        found = await self.all_corrected([event_id])
        return found[0] if found else None

    async def all_corrected(self, event_ids: Sequence[EventId]) -> Sequence[Corrected]:
        ids = list(event_ids)
        rows = await self._connection.fetch(_HOLD, ids)
        known: dict[EventId, list[Correction]] = {}
        for row in await self._connection.fetch(_OF, ids):
            known.setdefault(EventId(row["event_id"]), []).append(from_row(row))
        entries = [entry_from_row(row) for row in rows]
        return [Corrected(entry, known.get(entry.event_id, [])) for entry in entries]

    async def hold(self, event_ids: Sequence[EventId]) -> None:
        if len(event_ids) > 1:
            # Entries first, as for one that is corrected alone.
            await self._connection.fetch(_HOLD, list(event_ids))
            await self._connection.execute(_HOLD_HOURS, list(event_ids))

    async def known(self, ids: Sequence[EventId]) -> set[EventId]:
        rows = await self._connection.fetch(_KNOWN, list(ids))
        return {EventId(row["id"]) for row in rows}

    async def add(self, correction: Correction) -> bool:
        return bool(await self.add_all([correction]))

    async def add_all(self, corrections: Sequence[Correction]) -> int:
        if not corrections:
            return 0
        columns = zip(*(_to_row(one) for one in corrections), strict=True)
        row = await self._connection.fetchrow(_ADD, *(list(column) for column in columns))
        return int(row["added"]) if row else 0

    async def of(self, event_id: EventId) -> Sequence[Correction]:
        return [from_row(row) for row in await self._connection.fetch(_OF, [event_id])]


def _to_row(correction: Correction) -> tuple[object, ...]:
    return (
        correction.id,
        correction.event_id,
        correction.kind,
        correction.requests,
        correction.unpriced_requests,
        *correction.deltas.values,
        correction.reason,
        correction.made_by,
        correction.source,
        correction.made_at,
        correction.key,
    )


def from_row(row: Row) -> Correction:
    """A correction out of its row."""
    return Correction(
        id=EventId(row["id"]),
        event_id=EventId(row["event_id"]),
        kind=row["kind"],
        requests=row["requests"],
        unpriced_requests=row["unpriced_requests"],
        deltas=Deltas(*(row[name] for name in (*COUNTS, "cost_microusd"))),
        reason=row["reason"],
        made_by=UserId(row["made_by"]) if row["made_by"] else None,
        source=row["source"],
        made_at=row["made_at"],
        key=row["idempotency_key"],
    )
