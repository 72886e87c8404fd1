"""The ledger's partitions, and what waits for a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.billing.domain.outside_usage import OUTSIDE
from shared.db.database import Connection

# Making a partition needs the whole table for a moment. Batches queue up behind whoever waits for
# it, so it gives up soon and is tried again by the clock.
_BRIEFLY = "set local lock_timeout = '2s'"
_PREPARE = "select prepare_ledger_month($1)"
_PREPARE_DAYS = """
select prepare_ledger_day($1::date + step, $1::date) from generate_series(-1, $2::int) as step
"""
# Services outside may tell of any time from 2020 on: theirs of the past are where they belong.
_STRAY_ROWS = """
select count(*) as rows from ledger_entry_default
where not (starts_with(producer, $1) and occurred_at < now())
"""
_DEAD_EVENTS = "select count(*) as events from dead_event where replayed_at is null"


class SqlUpkeep:
    """Upkeep on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def prepare_months(self, months: Sequence[datetime]) -> None:
        await self._connection.execute(_BRIEFLY)
        for month in months:
            await self._connection.execute(_PREPARE, month.date())

    async def prepare_days(self, today: datetime, *, ahead: int) -> None:
        await self._connection.execute(_BRIEFLY)
        await self._connection.execute(_PREPARE_DAYS, today.date(), ahead)

    async def stray_rows(self) -> int:
        row = await self._connection.fetchrow(_STRAY_ROWS, f"{OUTSIDE}:")
        return int(row["rows"]) if row else 0

    async def dead_events(self) -> int:
        row = await self._connection.fetchrow(_DEAD_EVENTS)
        return int(row["events"]) if row else 0
