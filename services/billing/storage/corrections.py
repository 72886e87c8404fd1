"""Corrections of ledger entries, and the hours that follow them."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.domain.correction import Corrected, Correction, Deltas
from services.billing.storage.ledger import from_row as entry_from_row
from services.billing.storage.ledger_chain import COUNTS, SUMS
from shared.db.database import Connection, Row
from shared.ids import EventId, UserId

_HOLD = "select * from ledger_entry where event_id = $1 for update"
_OF = "select * from ledger_correction where event_id = $1 order by made_at, id"

# One row, its note for the chain, and its hour: all of it or nothing.
_ADD = f"""
with added as (
    insert into ledger_correction (
        id, event_id, kind, user_id, requests, unpriced_requests, {", ".join(COUNTS)},
        cost_microusd, reason, made_by, source, made_at,
        provider, model, operation, sandbox, occurred_at, idempotency_key
    )
    select $1, event_id, $3, user_id, $4, $5, $6, $7, $8, $9, $10, $11, $12,
           $13, $14, $15, $16, provider, model, operation, sandbox, occurred_at, $17
    from ledger_entry where event_id = $2
    on conflict (id) do nothing
    returning *
), noted as (
    insert into ledger_unlinked (kind, ids)
    select 'correction', array_agg(id) from added having count(*) > 0
), counted as (
    update usage_hour as known set
        {", ".join(f"{name} = known.{name} + added.{name}" for name in SUMS)}
    from added
    where (known.user_id, known.hour, known.provider, known.model, known.operation, known.sandbox)
        = (added.user_id, date_trunc('hour', added.occurred_at, 'UTC'), added.provider,
           added.model, added.operation, added.sandbox)
)
select count(*) as added from added
"""  # noqa: S608 - made of constants


class SqlCorrections:
    """Corrections on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def corrected(self, event_id: EventId) -> Corrected | None:
        row = await self._connection.fetchrow(_HOLD, event_id)
        return Corrected(entry_from_row(row), await self.of(event_id)) if row else None

    async def add(self, correction: Correction) -> bool:
        row = await self._connection.fetchrow(
            _ADD,
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
        return row is not None and bool(row["added"])

    async def of(self, event_id: EventId) -> Sequence[Correction]:
        return [from_row(row) for row in await self._connection.fetch(_OF, event_id)]


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
