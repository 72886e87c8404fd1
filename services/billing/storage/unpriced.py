"""Entries that wait for a price."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.billing.domain.ledger import Entry
from services.billing.domain.price_book import Model
from services.billing.storage.ledger import from_row
from shared.db.database import Connection

_MODELS = """
select provider, model, sum(unpriced_requests)::bigint as waiting from usage_hour
where unpriced_requests > 0 and (not sandbox or $1) group by provider, model
order by provider, model
"""

_CURSOR = "select after_event_id from rating_cursor where provider = $1 and model = $2"

# Another run that works on the same rows is not waited for; it rates them itself.
_PAGE = """
select * from ledger_entry
where pricing_status = 'unknown_price' and provider = $1 and model = $2 and event_id > $3
  and ($4::timestamptz is null or occurred_at >= $4)
  and not exists (
    select 1 from ledger_correction c
    where c.event_id = ledger_entry.event_id and c.kind = 'voided'
  )
order by event_id
limit $5
for update of ledger_entry skip locked
"""

_MOVE_CURSOR = """
insert into rating_cursor (provider, model, after_event_id) values ($1, $2, $3)
on conflict (provider, model) do update set after_event_id = excluded.after_event_id
"""
_REWIND = "delete from rating_cursor where provider = $1 and model = $2"

_RATE = """
with rated as (
    update ledger_entry e set
        cost_microusd = given.cost, price_version = given.version,
        pricing_status = 'rated',
        -- Later than the row, whatever clocks do: that is what tells it from a rating on arrival.
        rated_at = greatest(clock_timestamp(), e.received_at + interval '1 microsecond')
    from unnest($1::uuid[], $2::bigint[], $3::text[]) as given (event_id, cost, version)
    where e.event_id = given.event_id and e.pricing_status = 'unknown_price'
      and not exists (
        select 1 from ledger_correction c where c.event_id = e.event_id and c.kind = 'voided'
      )
    returning e.*
), noted as (
    insert into ledger_unlinked (kind, ids)
    select 'rating', array_agg(event_id) from rated having count(*) > 0
)
insert into usage_hour as known
    (user_id, hour, provider, model, operation, sandbox, requests, unpriced_requests,
     input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, output_reasoning_tokens,
     characters, cost_microusd)
select user_id, date_trunc('hour', occurred_at, 'UTC'), provider, model, operation, sandbox,
       0, -count(*), 0, 0, 0, 0, 0, 0, sum(cost_microusd)
from rated
group by 1, 2, 3, 4, 5, 6
order by 1, 2, 3, 4, 5, 6
on conflict (user_id, hour, provider, model, operation, sandbox) do update set
    unpriced_requests = known.unpriced_requests + excluded.unpriced_requests,
    cost_microusd = known.cost_microusd + excluded.cost_microusd
"""

_FIRST = UUID(int=0)


class SqlUnpricedUsage:
    """Unpriced entries on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def models(self, *, of_sandbox: bool) -> Sequence[tuple[Model, int]]:
        rows = await self._connection.fetch(_MODELS, of_sandbox)
        return [((row["provider"], row["model"]), row["waiting"]) for row in rows]

    async def page(self, model: Model, *, since: datetime | None, most: int) -> Sequence[Entry]:
        cursor = await self._connection.fetchrow(_CURSOR, *model)
        after = cursor["after_event_id"] if cursor else _FIRST
        rows = await self._connection.fetch(_PAGE, *model, after, since, most)
        if len(rows) == most:
            await self._connection.execute(_MOVE_CURSOR, *model, rows[-1]["event_id"])
        else:
            await self._connection.execute(_REWIND, *model)
        return [from_row(row) for row in rows]

    async def rate(self, entries: Sequence[Entry]) -> None:
        rated = [(entry, entry.rating) for entry in entries if entry.rating is not None]
        if rated:
            await self._connection.execute(
                _RATE,
                [entry.event_id for entry, _ in rated],
                [rating.cost for _, rating in rated],
                [rating.price_version for _, rating in rated],
            )
