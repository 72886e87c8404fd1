"""The operator's own prices."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from services.billing.domain.price_book import Model, PriceId, PriceOverride, UnitPrices
from shared.db.database import Connection, Row
from shared.ids import UserId

_OF = """
select o.* from price_override o
join unnest($1::text[], $2::text[]) as wanted (provider, model) using (provider, model)
"""

_LISTED = """
select * from price_override
where ($1::text is null or provider = $1) and ($2::text is null or model = $2) and id < $3
order by id desc limit $4
"""
_LAST = UUID(int=2**128 - 1)

_ADD = """
insert into price_override
    (id, provider, model, effective_from, input_microusd_per_million,
     cache_read_microusd_per_million, cache_write_microusd_per_million,
     output_microusd_per_million, characters_microusd_per_million, set_by, set_at,
     unit_microusd)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
on conflict (provider, model, effective_from) do nothing
returning id
"""


class SqlPrices:
    """Price overrides on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of(self, models: Collection[Model]) -> Sequence[PriceOverride]:
        if not models:
            return []
        rows = await self._connection.fetch(_OF, [m[0] for m in models], [m[1] for m in models])
        return [from_row(row) for row in rows]

    async def listed(
        self, provider: str | None, model: str | None, *, before: PriceId | None, most: int
    ) -> Sequence[PriceOverride]:
        rows = await self._connection.fetch(_LISTED, provider, model, before or _LAST, most)
        return [from_row(row) for row in rows]

    async def add(self, price: PriceOverride) -> bool:
        prices = price.prices
        row = await self._connection.fetchrow(
            _ADD,
            price.id,
            price.provider,
            price.model,
            price.effective_from,
            prices.input,
            prices.cache_read,
            prices.cache_write,
            prices.output,
            prices.characters,
            price.set_by,
            price.set_at,
            prices.unit,
        )
        return row is not None


def from_row(row: Row) -> PriceOverride:
    """A price out of a row of `price_override`."""
    return PriceOverride(
        id=PriceId(row["id"]),
        provider=row["provider"],
        model=row["model"],
        effective_from=row["effective_from"],
        prices=UnitPrices(
            input=row["input_microusd_per_million"],
            cache_read=row["cache_read_microusd_per_million"],
            cache_write=row["cache_write_microusd_per_million"],
            output=row["output_microusd_per_million"],
            characters=row["characters_microusd_per_million"],
            unit=row["unit_microusd"],
        ),
        set_by=UserId(row["set_by"]),
        set_at=row["set_at"],
    )
