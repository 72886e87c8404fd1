"""A month of the ledger that is all of one user's, and its hourly sums."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from services.billing.storage.upkeep import SqlUpkeep
from shared.db.database import Connection, Database
from shared.ids import UserId

_PATIENCE_SECONDS = 1800.0

# Written before the partition has an index, and made into one afterwards: PostgreSQL then builds
# its indexes from sorted rows, and writes no log of a table that the same transaction has made.
_MAKE = """
create table month_to_fill (like ledger_entry including defaults including constraints)
"""
_FILL = """
insert into month_to_fill (
    event_id, user_id, tier, operation, provider, model, source, outcome, input_tokens,
    cache_read_tokens, cache_write_tokens, output_tokens, output_reasoning_tokens, characters,
    request_id, sandbox, producer, occurred_at, pricing_status, cost_microusd, price_version,
    rated_at
)
select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7000'
        || '8000' || lpad(to_hex(n), 12, '0'))::uuid,
       $1, 'pro', 'chat', 'openai', 'gpt-6-luna', 'provider', 'done', 1200, 1000, 0, 350, 0, 0,
       'req', false, 'chat', at, 'rated', 205, 'list/1', now()
from (select n, $2::timestamptz + n * (($3::timestamptz - $2) / $4) as at
      from generate_series(0, $4 - 1) as n) as rows
"""
_ATTACH = """
drop table {partition};
alter table month_to_fill rename to {partition};
alter table ledger_entry attach partition {partition}
    for values from (ledger_month_begins('{begins}')) to (ledger_month_begins('{ends}'))
"""
_HOURS = """
insert into usage_hour
select user_id, date_trunc('hour', occurred_at, 'UTC'), provider, model, operation, sandbox,
       count(*), 0, sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens),
       sum(output_tokens), sum(output_reasoning_tokens), sum(characters), sum(cost_microusd)
from ledger_entry where event_id >= ledger_month_begins($1::date)
    and event_id < ledger_month_begins($2::date)
group by 1, 2, 3, 4, 5, 6
"""


@dataclass(frozen=True, slots=True)
class FilledMonth:
    """The calendar month before this one."""

    begins: datetime
    ends: datetime

    @classmethod
    def before(cls, now: datetime) -> Self:
        ends = datetime(now.year, now.month, 1, tzinfo=UTC)
        year, month = (now.year, now.month - 1) if now.month > 1 else (now.year - 1, 12)
        return cls(datetime(year, month, 1, tzinfo=UTC), ends)

    async def fill(self, database: Database, user: UserId, rows: int) -> None:
        """With so many rows of the user's, evenly over its time."""
        async with database.connection() as connection:
            async with connection.transaction():
                await SqlUpkeep(connection).prepare_months([self.begins])
                await connection.execute(_MAKE)
                await _patiently(connection, _FILL, user, self.begins, self.ends, rows)
                await _patiently(connection, self._attach())
            await _patiently(connection, _HOURS, self.begins.date(), self.ends.date())
            await _patiently(connection, "analyze ledger_entry, usage_hour")

    def _attach(self) -> str:
        return _ATTACH.format(
            partition=f"ledger_entry_{self.begins:%Y_%m}",
            begins=self.begins.date(),
            ends=self.ends.date(),
        )


async def _patiently(connection: Connection, sql: str, *values: object) -> None:
    await connection.execute(sql, *values, timeout=_PATIENCE_SECONDS)
