"""Who has come how far with a limit, by the ledger, and who was told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.billing.domain.limits import THRESHOLDS, AlertRule, Approach
from services.billing.storage.spend_alerts import PATIENCE_SECONDS
from shared.db.database import Connection
from shared.ids import UserId

# Without a limit: told by a release that did not note it.
_UNLESS_TOLD = """
on conflict (user_id, window_name, starts_at, percent)
do update set most = excluded.most, told_at = now() where known.most < excluded.most
"""
# Whose usage came lately may have reached something. A row per window and threshold makes
# sure that it is told once, however many look at the same time; and once more of a larger limit,
# of who has another tier since.
_APPROACHED = f"""
with active as (
    select distinct on (user_id) user_id, tier from ledger_entry
    where received_at >= $1 and occurred_at <= $2
      and occurred_at >= (select min(starts_at) from unnest($8::timestamptz[]) as given (starts_at))
      and not starts_with(producer, 'outside:')
    order by user_id, occurred_at desc
), rule as (
    select * from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                         $8::timestamptz[], $9::timestamptz[])
        as given (tier, window_name, provider, counted, most, starts_at, ends_at)
), used as (
    select a.user_id, r.tier, r.window_name, r.most, r.starts_at, r.ends_at,
           sum(case r.counted when 'characters' then h.characters else h.requests end) as used
    from active a join rule r using (tier)
    join usage_hour h on h.user_id = a.user_id and h.provider = r.provider
         and h.hour >= r.starts_at and h.hour < r.ends_at
    group by 1, 2, 3, 4, 5, 6
), reached as (
    select u.*, t.percent from used u cross join unnest($10::int[]) as t (percent)
    where u.used * 100 >= u.most::numeric * t.percent
), told as (
    insert into limit_alert as known (user_id, window_name, starts_at, percent, most)
    select user_id, window_name, starts_at, percent, most from reached
    order by user_id, window_name, starts_at, percent
    {_UNLESS_TOLD}
    returning user_id, window_name, starts_at, percent
)
select distinct on (r.user_id, r.window_name, r.starts_at) r.*
from reached r join told t using (user_id, window_name, starts_at, percent)
order by r.user_id, r.window_name, r.starts_at, r.percent desc
"""  # noqa: S608 - made of the text above

_NOTE = f"""
insert into limit_alert as known (user_id, window_name, starts_at, percent, most)
select $1, $2, $3, percent, $5 from unnest($4::int[]) as t (percent) order by percent
{_UNLESS_TOLD} returning percent
"""  # noqa: S608 - made of the text above

_FORGET = "delete from limit_alert where starts_at < $1"


class SqlLimitAlerts:
    """Alerts on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def approached(
        self, rules: Sequence[AlertRule], *, since: datetime, until: datetime
    ) -> Sequence[Approach]:
        rows = await self._connection.fetch(
            _APPROACHED,
            since,
            until,
            [r.tier for r in rules],
            [r.name for r in rules],
            [r.provider for r in rules],
            [r.counted for r in rules],
            [r.limit for r in rules],
            [r.starts_at for r in rules],
            [r.ends_at for r in rules],
            list(THRESHOLDS),
            timeout=PATIENCE_SECONDS,
        )
        return [
            Approach(
                UserId(row["user_id"]),
                row["tier"],
                row["window_name"],
                row["percent"],
                row["most"],
                int(row["used"]),
                row["ends_at"],
            )
            for row in rows
        ]

    async def note_reached(self, one: Approach, starts_at: datetime) -> bool:
        told = await self._connection.fetch(
            _NOTE, one.user_id, one.window, starts_at, list(THRESHOLDS), one.limit
        )
        return any(row["percent"] == one.percent for row in told)

    async def forget(self, *, before: datetime) -> None:
        await self._connection.execute(_FORGET, before)
