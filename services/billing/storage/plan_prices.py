"""The operator's own prices of tiers."""

from __future__ import annotations

from services.billing.domain.plan_price import PlanPrice, PlanPrices
from shared.db.database import Connection
from shared.ids import UserId

_ALL = "select * from plan_price"
_ADD = """
insert into plan_price (tier, effective_from, microusd_per_seat_month, set_by, set_at)
values ($1, $2, $3, $4, $5) on conflict do nothing returning tier
"""


class SqlPlanPrices:
    """Prices of tiers on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def all(self) -> PlanPrices:
        return PlanPrices.of(
            PlanPrice(
                tier_name=row["tier"],
                effective_from=row["effective_from"],
                microusd_per_seat_month=row["microusd_per_seat_month"],
                set_by=UserId(row["set_by"]),
                set_at=row["set_at"],
            )
            for row in await self._connection.fetch(_ALL)
        )

    async def add(self, price: PlanPrice) -> bool:
        row = await self._connection.fetchrow(
            _ADD,
            price.tier_name,
            price.effective_from,
            price.microusd_per_seat_month,
            price.set_by,
            price.set_at,
        )
        return row is not None
