"""What a price would change, worked out where the entries are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.billing.domain.price_book import PriceOverride
from services.billing.domain.price_preview import PriceEffect
from services.billing.domain.rerating import RATED_ANEW, Rerating, ReratingProgress
from services.billing.storage.prices import from_row
from shared.db.database import Connection
from shared.ids import EventId, UserId

_COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "characters",
)

_ALL_COUNTS = (*_COUNTS, "output_reasoning_tokens")

# The same sum as `UnitPrices.cost`, half to even, and what was given beside ratings as in
# `Rerating.correction_of`. An entry belongs to the price until the model's
# next one takes its place.
_EFFECT = f"""
with span as (
    select $3::timestamptz as begins,
           (select min(effective_from) from price_override
            where provider = $1 and model = $2 and effective_from > $3) as ends
), entry as (
    select tier, cost_microusd as cost_now, given,
           greatest(input_tokens - cache_read_tokens - cache_write_tokens, 0)::numeric as plain,
           cache_read_tokens::numeric as cache_read, cache_write_tokens::numeric as cache_write,
           output_tokens::numeric as output, characters::numeric as characters,
           units::numeric as units,
           input_tokens < cache_read_tokens + cache_write_tokens as contradicts
    from (
        select e.tier, e.units, coalesce(c.given, 0) as given,
               e.cost_microusd + coalesce(c.cost_microusd, 0) as cost_microusd,
               {", ".join(f"e.{name} + coalesce(c.{name}, 0) as {name}" for name in _COUNTS)}
        from span, ledger_entry e left join lateral (
            select bool_or(kind = 'voided') as voided, sum(cost_microusd) as cost_microusd,
                   sum(cost_microusd) filter (where {" and ".join(f"{n} = 0" for n in _ALL_COUNTS)}
                       and not (source = 'billing' and starts_with(reason, '{RATED_ANEW}'))
                   ) as given,
                   {", ".join(f"sum({name}) as {name}" for name in _COUNTS)}
            from ledger_correction where event_id = e.event_id
        ) as c on true
        where e.provider = $1 and e.model = $2 and e.occurred_at >= begins
          and (ends is null or e.occurred_at < ends) and c.voided is not true
    ) as standing
), summed as (
    select tier, cost_now, units, given,
           case when contradicts
                or plain > 0 and $4::bigint is null
                or cache_read > 0 and coalesce($5::bigint, $4) is null
                or cache_write > 0 and coalesce($6::bigint, $4) is null
                or output > 0 and $7::bigint is null
                or characters > 0 and $8::bigint is null
                or units > 0 and $9::bigint is null
           then null
           else plain * coalesce($4, 0) + cache_read * coalesce($5, $4, 0)
                + cache_write * coalesce($6, $4, 0) + output * coalesce($7, 0)
                + characters * coalesce($8, 0)
           end as millionths
    from entry
), priced as (
    select tier, cost_now,
           case when millionths is not null then greatest(0, given + div(millionths, 1000000)
           + case when mod(millionths, 1000000) > 500000
                    or mod(millionths, 1000000) = 500000
                       and mod(div(millionths, 1000000), 2) = 1 then 1 else 0 end
           + units * coalesce($9, 0)) end as cost_then
    from summed
)
select tier,
       count(*) filter (where cost_now is null and cost_then is not null) as waiting,
       coalesce(sum(cost_then) filter (where cost_now is null), 0) as waiting_cost,
       count(*) filter (where cost_now is null and cost_then is null) as still_waiting,
       count(*) filter (where cost_now is not null and cost_then is not null) as rated,
       coalesce(sum(cost_now) filter (where cost_then is not null), 0) as cost_now,
       coalesce(sum(cost_then) filter (where cost_now is not null), 0) as cost_then,
       count(*) filter (where cost_now is not null and cost_then is null) as not_priced_then
from priced group by tier order by tier
"""  # noqa: S608 - made of the names above

# All entries of a model are read; whoever asks for a preview knows that.
_PATIENCE_SECONDS = 300.0

TO_RERATE = """
rerating r
join price_override p on p.id = r.price_id
join ledger_entry e on e.provider = p.provider and e.model = p.model
    and e.pricing_status = 'rated' and e.price_version <> 'override/' || p.id::text
    and e.event_id > r.after_event_id and e.occurred_at >= p.effective_from
    and e.occurred_at < coalesce(
        (select min(n.effective_from) from price_override n
         where n.provider = p.provider and n.model = p.model
           and n.effective_from > p.effective_from), 'infinity')
"""
"""Tables that hold, with `r.done_at is null`, every entry (`e`) that a price (`p`) is to be applied
to and that `rated_entries` has not come to yet."""

_ASK = """
insert into rerating (price_id, asked_by, asked_at) values ($1, $2, $3)
"""
_NEXT = """
select r.asked_by, r.asked_at, r.after_event_id, r.corrected, p.*
from rerating r join price_override p on p.id = r.price_id
where r.done_at is null and r.asked_at < $1
order by r.asked_at limit 1
for update of r skip locked
"""
_OPEN = """
select r.asked_by, r.asked_at, r.corrected, p.*
from rerating r join price_override p on p.id = r.price_id
where r.done_at is null order by r.asked_at
"""
_LEFT = f"""
select p.id, count(*) as entries from {TO_RERATE} where r.done_at is null group by p.id
"""  # noqa: S608 - made of our own SQL
_RATED = """
select event_id from ledger_entry
where provider = $1 and model = $2 and pricing_status = 'rated' and price_version <> $5
  and event_id > $6 and occurred_at >= $3
  and occurred_at < coalesce(
      (select min(effective_from) from price_override
       where provider = $1 and model = $2 and effective_from > $3), 'infinity')
order by event_id limit $4
"""
_WENT_ON = """
update rerating set after_event_id = coalesce($2, after_event_id), corrected = corrected + $3,
    done_at = case when $4 then now() end
where price_id = $1
"""


class SqlPriceEffects:
    """Previews on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of(self, price: PriceOverride) -> Sequence[PriceEffect]:
        prices = price.prices
        rows = await self._connection.fetch(
            _EFFECT,
            price.provider,
            price.model,
            price.effective_from,
            prices.input,
            prices.cache_read,
            prices.cache_write,
            prices.output,
            prices.characters,
            prices.unit,
            timeout=_PATIENCE_SECONDS,
        )
        return [
            PriceEffect(
                tier=row["tier"],
                waiting=row["waiting"],
                waiting_cost=int(row["waiting_cost"]),
                still_waiting=row["still_waiting"],
                rated=row["rated"],
                cost_now=int(row["cost_now"]),
                cost_then=int(row["cost_then"]),
                not_priced_then=row["not_priced_then"],
            )
            for row in rows
        ]

    async def ask_rerating(self, price: PriceOverride) -> None:
        await self._connection.execute(_ASK, price.id, price.set_by, price.set_at)

    async def next_rerating(self, *, asked_before: datetime) -> Rerating | None:
        row = await self._connection.fetchrow(_NEXT, asked_before)
        if row is None:
            return None
        return Rerating(
            price=from_row(row),
            asked_by=UserId(row["asked_by"]),
            asked_at=row["asked_at"],
            after=EventId(row["after_event_id"]),
            corrected=row["corrected"],
        )

    async def reratings(self) -> Sequence[ReratingProgress]:
        rows = await self._connection.fetch(_OPEN)
        counted = await self._connection.fetch(_LEFT, timeout=_PATIENCE_SECONDS) if rows else []
        left = {row["id"]: row["entries"] for row in counted}
        return [
            ReratingProgress(
                price=from_row(row),
                asked_by=UserId(row["asked_by"]),
                asked_at=row["asked_at"],
                corrected=row["corrected"],
                left=left.get(row["id"], 0),
            )
            for row in rows
        ]

    async def rated_entries(self, rerating: Rerating, *, most: int) -> Sequence[EventId]:
        price = rerating.price
        rows = await self._connection.fetch(
            _RATED,
            price.provider,
            price.model,
            price.effective_from,
            most,
            price.version,
            rerating.after,
            timeout=_PATIENCE_SECONDS,
        )
        return [EventId(row["event_id"]) for row in rows]

    async def went_on(
        self, rerating: Rerating, *, after: EventId | None, corrected: int, done: bool
    ) -> None:
        await self._connection.execute(_WENT_ON, rerating.price.id, after, corrected, done)
