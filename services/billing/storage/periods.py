"""Closed months, and what they were closed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from services.billing.domain.closing import (
    NOT_HEARD,
    ClosedPeriod,
    Finding,
    LateUsage,
    Month,
    Totals,
)
from services.billing.storage.price_effects import TO_RERATE
from shared.db.archive import ids_digest
from shared.db.database import Connection, Row
from shared.ids import UserId

_SUMMED = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
    "units",
)
_GROUP = ("tier", "provider", "model", "operation", "sandbox")

# Batches that are being written are waited for, new ones wait (in the broker nothing is lost): what
# comes after this moment is late, to the row.
_HALT = "set local lock_timeout = '30s'"
_LOCK = "lock table ledger_entry, ledger_correction in share row exclusive mode"
_LOCK_SECONDS = 40.0
# A whole month is read, once; the general limit is for calls that somebody waits for.
_PATIENCE_SECONDS = 600.0
_MOMENT = "select clock_timestamp() as now"

_GET = "select * from period where month = $1"
_LIST = "select * from period order by month desc limit $1"
_ADD = """
insert into period (month, closed_at, closed_by, waived, reason, totals, digest)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict do nothing returning month
"""

_GIVEN_UP = """
select finding ->> 'subject' as name, max(closed_at) as at
from period cross join jsonb_array_elements(waived) as finding
where finding ->> 'code' = $1 group by 1
"""

_IDS = f"""
select count(*) as events, {ids_digest("event_id")} as ids
from ledger_entry where occurred_at >= $1 and occurred_at < $2
"""  # noqa: S608 - made of the names above
_IDS_AT_CLOSING = f"{_IDS} and received_at <= $3"
_TOTALS = f"""
select {", ".join(_GROUP)}, count(*) as requests,
       count(*) filter (where cost_microusd is null) as unpriced_requests,
       {", ".join(f"sum({name}) as {name}" for name in _SUMMED)},
       coalesce(sum(cost_microusd), 0) as cost_microusd
from ledger_entry where occurred_at >= $1 and occurred_at < $2
group by {", ".join(_GROUP)} order by {", ".join(_GROUP)}
"""  # noqa: S608 - made of the names above

_CORRECTED = """
select count(*) as corrections, coalesce(sum(cost_microusd), 0) as cost
from ledger_correction where occurred_at >= $1 and occurred_at < $2
"""

# Usage of the sandbox is never charged: no month and no file waits for its price.
_UNPRICED = """
select provider, model, count(*) as entries from ledger_entry
where pricing_status = 'unknown_price' and occurred_at >= $1 and occurred_at < $2 and not sandbox
  and not exists (
    select 1 from ledger_correction c
    where c.event_id = ledger_entry.event_id and c.kind = 'voided'
  )
group by 1, 2 order by 1, 2
"""

_TO_RERATE = f"""
select p.provider, p.model, count(*) as entries from {TO_RERATE}
where r.done_at is null and e.occurred_at >= $1 and e.occurred_at < $2 and not e.sandbox
group by 1, 2 order by 1, 2
"""  # noqa: S608 - made of our own SQL

_LATE = """
select count(*) as events, coalesce(sum(cost_microusd), 0) as cost
from ledger_entry where occurred_at >= $1 and occurred_at < $2 and received_at > $3
"""
_LATE_IDS = """
select event_id from ledger_entry
where occurred_at >= $1 and occurred_at < $2 and received_at > $3
order by event_id limit $4
"""


class SqlPeriods:
    """Closed months on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def halt(self) -> datetime:
        await self._connection.execute(_HALT)
        await self._connection.execute(_LOCK, timeout=_LOCK_SECONDS)
        row = await self._connection.fetchrow(_MOMENT)
        assert row is not None
        moment: datetime = row["now"]
        return moment

    async def get(self, month: Month) -> ClosedPeriod | None:
        row = await self._connection.fetchrow(_GET, month.first_day)
        return from_row(row) if row else None

    async def newest(self, *, most: int) -> Sequence[ClosedPeriod]:
        return [from_row(row) for row in await self._connection.fetch(_LIST, most)]

    async def add(self, period: ClosedPeriod) -> bool:
        row = await self._connection.fetchrow(
            _ADD,
            period.month.first_day,
            period.closed_at,
            period.closed_by,
            [finding.to_facts() for finding in period.waived],
            period.reason,
            period.totals.to_facts(),
            period.digest,
        )
        return row is not None

    async def given_up(self) -> Mapping[str, datetime]:
        rows = await self._connection.fetch(_GIVEN_UP, NOT_HEARD)
        return {row["name"]: row["at"] for row in rows}

    async def totals(self, month: Month) -> Totals:
        span = (month.period.begins, month.period.ends)
        ids = await self._connection.fetchrow(_IDS, *span, timeout=_PATIENCE_SECONDS)
        assert ids is not None
        rows = await self._connection.fetch(_TOTALS, *span, timeout=_PATIENCE_SECONDS)
        groups = [_plain(row) for row in rows]
        corrections, corrected_cost = await self._corrected(month)
        return Totals(ids["events"], ids["ids"], groups, corrections, corrected_cost)

    async def entries_at_closing(self, closed: ClosedPeriod) -> tuple[int, str]:
        span = (closed.month.period.begins, closed.month.period.ends, closed.closed_at)
        row = await self._connection.fetchrow(_IDS_AT_CLOSING, *span, timeout=_PATIENCE_SECONDS)
        assert row is not None
        return row["events"], row["ids"]

    async def _corrected(self, month: Month) -> tuple[int, int]:
        row = await self._connection.fetchrow(
            _CORRECTED, month.period.begins, month.period.ends, timeout=_PATIENCE_SECONDS
        )
        assert row is not None
        return row["corrections"], int(row["cost"])

    async def unpriced(self, month: Month) -> Sequence[Finding]:
        rows = await self._connection.fetch(
            _UNPRICED, month.period.begins, month.period.ends, timeout=_PATIENCE_SECONDS
        )
        return [
            Finding("unpriced", f"{row['provider']}/{row['model']}", row["entries"]) for row in rows
        ]

    async def to_rerate(self, month: Month) -> Sequence[Finding]:
        rows = await self._connection.fetch(
            _TO_RERATE, month.period.begins, month.period.ends, timeout=_PATIENCE_SECONDS
        )
        return [
            Finding("rerating_waiting", f"{row['provider']}/{row['model']}", row["entries"])
            for row in rows
        ]

    async def late(self, closed: ClosedPeriod, *, most: int) -> LateUsage:
        span = (closed.month.period.begins, closed.month.period.ends, closed.closed_at)
        row = await self._connection.fetchrow(_LATE, *span, timeout=_PATIENCE_SECONDS)
        assert row is not None
        ids = await self._connection.fetch(_LATE_IDS, *span, most, timeout=_PATIENCE_SECONDS)
        # They are only ever added to, so what is more than at the closing came after it.
        corrections, corrected_cost = await self._corrected(closed.month)
        return LateUsage(
            row["events"],
            int(row["cost"]),
            [found["event_id"] for found in ids],
            corrections - closed.totals.corrections,
            corrected_cost - closed.totals.corrected_cost,
        )


def _plain(row: Row) -> dict[str, Any]:
    """Numbers as whole numbers, which JSON has, and a decimal fraction it has not."""
    return {
        name: value if isinstance(value, str | bool) else int(value) for name, value in row.items()
    }


def from_row(row: Row) -> ClosedPeriod:
    """A closed month out of its row."""
    totals = row["totals"]
    return ClosedPeriod(
        month=Month(row["month"]),
        closed_at=row["closed_at"],
        closed_by=UserId(row["closed_by"]),
        waived=tuple(Finding(**finding) for finding in row["waived"]),
        reason=row["reason"],
        totals=Totals(
            totals["events"],
            totals["ids"],
            totals["groups"],
            totals["corrections"],
            totals["corrected_cost_microusd"],
        ),
        kept_digest=row["digest"],
    )
