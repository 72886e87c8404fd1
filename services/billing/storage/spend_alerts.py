"""At which spending users want to be told, and of what they were told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from services.billing.domain.webhook_ports import Spent
from shared.db.database import Connection
from shared.ids import UserId

_OF = "select microusd from spend_threshold where user_id = $1 order by microusd"
_DROP = "delete from spend_threshold where user_id = $1 and microusd <> all($2::bigint[])"
_ADD = """
insert into spend_threshold (user_id, microusd, set_at)
select $1, microusd, $3 from unnest($2::bigint[]) as given (microusd)
on conflict do nothing
"""

# Whose usage came lately, or who chose lately, may have reached something. A row per threshold
# makes sure that it is told once, however many look at the same time. What a sandbox costs, nobody
# pays.
_REACHED = """
with active as (
    select distinct on (user_id) user_id, tier from ledger_entry
    where received_at >= $3 and occurred_at >= $1 and occurred_at < $2 and occurred_at <= $4
      and not sandbox
    order by user_id, occurred_at desc
), asked as (
    select t.user_id, t.microusd, coalesce(a.tier, s.tier, 'free') as tier
    from spend_threshold t
    left join active a on a.user_id = t.user_id
    left join subscription s on s.user_id = t.user_id
    where (a.user_id is not null or t.set_at >= $3) and t.set_at < $2
), spent as (
    select h.user_id, sum(h.cost_microusd) as spent from usage_hour h
    where h.user_id in (select user_id from asked)
      and h.hour >= $1 and h.hour < $2 and not h.sandbox
    group by h.user_id
), reached as (
    select a.user_id, a.tier, a.microusd, s.spent from asked a join spent s using (user_id)
    where s.spent >= a.microusd
), told as (
    insert into spend_alert (user_id, month, threshold_microusd)
    select user_id, ($1 at time zone 'UTC')::date, microusd from reached
    order by user_id, microusd
    on conflict do nothing
    returning user_id, threshold_microusd
)
select distinct on (r.user_id) r.user_id, r.tier, r.microusd, r.spent,
       ($1 at time zone 'UTC')::date as month
from reached r join told t on t.user_id = r.user_id and t.threshold_microusd = r.microusd
order by r.user_id, r.microusd desc
"""
# Nobody waits for it, and what was linked late may be of hours.
PATIENCE_SECONDS = 50.0
_FORGET = "delete from spend_alert where month < $1"


class SqlSpendAlerts:
    """Spend alerts on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def thresholds(self, user_id: UserId) -> Sequence[int]:
        return [row["microusd"] for row in await self._connection.fetch(_OF, user_id)]

    async def set_thresholds(
        self, user_id: UserId, thresholds: Sequence[int], at: datetime
    ) -> None:
        await self._connection.execute(_DROP, user_id, list(thresholds))
        await self._connection.execute(_ADD, user_id, sorted(set(thresholds)), at)

    async def reached(
        self, month: tuple[datetime, datetime], *, since: datetime, until: datetime
    ) -> Sequence[Spent]:
        rows = await self._connection.fetch(
            _REACHED, *month, since, until, timeout=PATIENCE_SECONDS
        )
        return [
            Spent(
                UserId(row["user_id"]),
                row["tier"],
                row["month"],
                row["microusd"],
                int(row["spent"]),
            )
            for row in rows
        ]

    async def forget(self, *, before: date) -> None:
        await self._connection.execute(_FORGET, before)
