"""Figures for decisions: over charges and rollups, never over the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from services.billing.domain.analytics import (
    ALL,
    Active,
    Churn,
    Conversion,
    Days,
    Facet,
    Grain,
    Months,
    Retention,
    Revenue,
    TierUsage,
    TotalUsage,
)
from shared.db.database import Connection, Row

_MONTHS = """
month as (
    select begins, ends, (begins at time zone 'UTC')::date as day
    from unnest($1::timestamptz[], $2::timestamptz[]) as m (begins, ends)
)
"""


def _earned(until: str) -> str:
    """What of a charge has been earned up to a moment: by the second, and nothing before it was
    charged, so that no month's figure changes afterwards."""
    return f"""
    case when {until} <= c.charged_at then 0
         when {until} >= c.ends then c.amount_microusd
         when {until} <= c.begins then 0
         else trunc(c.amount_microusd * extract(epoch from {until} - c.begins)
                    / extract(epoch from c.ends - c.begins)) end
    """


_RECOGNISED = f"""
with {_MONTHS}
select m.day as month, c.tier,
       sum({_earned("m.ends")} - {_earned("m.begins")})::bigint as recognised,
       coalesce(sum(c.amount_microusd) filter (
           where c.charged_at >= m.begins and c.charged_at < m.ends), 0)::bigint as charged
from month m join charge c on c.charged_at < m.ends
     and (c.ends > m.begins or c.charged_at >= m.begins)
group by 1, 2 order by 1, 2
"""  # noqa: S608 - made of constants

# What a holder pays each month at a moment: the fees and debits that cover it less the credits and
# what was written off. An upgrade's credit takes the old fee away, and its debit brings the new.
_LINES = """
line as (
    select holder_id, tier, unit_price_microusd * seats * sign as monthly, seats * sign as seats,
           case when kind = 'write_off' then greatest(begins, charged_at) else begins end as starts,
           ends
    from charge cross join lateral (
        select case when kind in ('period_fee', 'proration_debit') then 1 else -1 end as sign
    ) as adds
    where ends > (select min(begins) from month) and begins <= (select max(ends) from month)
), held as (
    select t.at, l.holder_id, l.tier, sum(l.monthly)::bigint as mrr, sum(l.seats)::bigint as seats
    from (select begins as at from month union select ends from month) as t
    join line l on l.starts <= t.at and l.ends > t.at
    group by 1, 2, 3 having sum(l.monthly) > 0
)
"""
_RECURRING = f"""
with {_MONTHS}, {_LINES}
select m.day as month, h.tier, sum(h.mrr)::bigint as mrr, count(*) as subscriptions,
       sum(h.seats)::bigint as seats
from month m join held h on h.at = m.ends group by 1, 2
"""  # noqa: S608
_CHURN = f"""
with {_MONTHS}, {_LINES}, starts as (
    select m.day, m.begins, m.ends, h.* from month m join held h on h.at = m.begins
),
ended as (select m.day, m.begins, m.ends, h.* from month m join held h on h.at = m.ends),
pair as (
    select coalesce(s.day, e.day) as month, coalesce(s.tier, e.tier) as tier,
           s.mrr as before, e.mrr as after,
           e.holder_id is null and exists (
               select 1 from charge w where w.holder_id = s.holder_id and w.kind = 'write_off'
               and w.charged_at >= s.begins and w.charged_at < s.ends
           ) as unpaid
    from starts s full join ended e on e.day = s.day and e.holder_id = s.holder_id
)
select month, tier,
       count(before) as at_start,
       count(*) filter (where after is null and not unpaid) as left_voluntary,
       count(*) filter (where after is null and unpaid) as left_unpaid,
       count(*) filter (where before is null) as new,
       coalesce(sum(before), 0)::bigint as mrr_at_start,
       coalesce(sum(before) filter (where after is null and not unpaid), 0)::bigint as lost_freely,
       coalesce(sum(before) filter (where after is null and unpaid), 0)::bigint as lost_unpaid,
       coalesce(sum(before - after) filter (where after < before), 0)::bigint as contraction,
       coalesce(sum(after - before) filter (where after > before), 0)::bigint as expansion,
       coalesce(sum(after) filter (where before is null), 0)::bigint as new_mrr
from pair group by 1, 2 order by 1, 2
"""  # noqa: S608
_ACTIVE = """
select begins, {tier} as tier, {service} as service, count(*) as users
from user_activity
where grain = $1 and begins between $2 and $3 and service {which} 'all'
group by 1, 2, 3 order by 1, 2, 3
"""

# Registration, first call or first subscription, whatever billing heard of first. A change without
# a subscription is of a user who was forgotten.
_FIRST_SEEN = """
first_seen as (
    select user_id, min(day) as day from (
        select user_id, day from user_first_seen
        union all
        select c.user_id, (min(c.changed_at) at time zone 'UTC')::date
        from subscription_change c left join subscription s using (user_id)
        where s.user_id is null or not s.is_organisation group by 1
    ) as heard group by 1
    -- As a case, of which the planner expects half: of a range over a sum it expects next to none,
    -- and would then look each user's months up one by one.
    having case when min(day) >= $1 and min(day) < $2 then true else false end
)
"""
_COHORT = "date_trunc('month', f.day::timestamp)::date"
_CONVERSION = f"""
with {_FIRST_SEEN}, paid as (
    select holder_id, (min(charged_at) at time zone 'UTC')::date as day from charge
    where kind = 'period_fee' and amount_microusd > 0 and not is_organisation group by 1
)
select {_COHORT} as cohort, count(*) as users,
       count(*) filter (where p.day - f.day <= $3) as converted
from first_seen f left join paid p on p.holder_id = f.user_id
group by 1 order by 1
"""  # noqa: S608
_SIZES = f"""
with {_FIRST_SEEN} select {_COHORT} as cohort, count(*) as users from first_seen f group by 1
"""  # noqa: S608
_RETENTION = f"""
with {_FIRST_SEEN}
select {_COHORT} as cohort, a.begins as month, count(*) as active
from first_seen f join user_activity a on a.user_id = f.user_id
where a.grain = 'month' and a.service = 'all' and a.begins >= $1
group by 1, 2
"""  # noqa: S608
# The fee is the one at the day's beginning; invoices, which know each entry's moment, decide.
_TOTALS = """
usage_total t left join lateral (
    select f.basis_points from usage_fee f
    where f.tier = t.tier and f.effective_from <= t.day::timestamp at time zone 'UTC'
    order by f.effective_from desc limit 1
) as fee on true
where t.day between $1 and $2
"""
_FEE = "floor(coalesce(sum(t.cost_microusd * fee.basis_points), 0) / 10000)::bigint"
_BY_TIER = f"""
select date_trunc('month', t.day::timestamp)::date as month, t.tier,
       sum(t.requests)::bigint as requests, {_FEE} as fee
from {_TOTALS} group by 1, 2 order by 1, 2
"""  # noqa: S608
_FACETS = {
    Facet.MONTH: "date_trunc('month', t.day::timestamp)::date",
    Facet.DAY: "t.day",
    Facet.TIER: "t.tier",
    Facet.SERVICE: "t.service",
    Facet.PROVIDER: "t.provider",
    Facet.MODEL: "t.model",
    Facet.OPERATION: "t.operation",
}
_MEASURES = {
    "requests": "sum(t.requests)",
    "unpriced_requests": "sum(t.unpriced_requests)",
    "input_tokens": "sum(t.input_tokens)",
    "output_tokens": "sum(t.output_tokens)",
    "characters": "sum(t.characters)",
    "known_cost_microusd": "sum(t.cost_microusd)",
    "usage_fee_microusd": _FEE,
}


class SqlAnalytics:
    """The figures on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_planning_anew = False

    async def _fetch(self, sql: str, *values: Any) -> list[Row]:
        """Rows, by a plan made for just these values: the one for any values that PostgreSQL takes
        after some executions costs several times as much here."""
        if not self._is_planning_anew:
            await self._connection.execute("set local plan_cache_mode = force_custom_plan")
            self._is_planning_anew = True
        return list(await self._connection.fetch(sql, *values))

    async def revenue(self, months: Months) -> Sequence[Revenue]:
        found: dict[tuple[date, str], Revenue] = {}
        for row in await self._fetch(_RECOGNISED, *_spans(months)):
            key = (row["month"], row["tier"])
            found[key] = Revenue(*key, row["charged"], row["recognised"])
        for row in await self._fetch(_RECURRING, *_spans(months)):
            key = (row["month"], row["tier"])
            mrr = Revenue(*key, 0, 0, row["mrr"], row["subscriptions"], row["seats"])
            found[key] = found.get(key, Revenue(*key)) + mrr
        return [found[key] for key in sorted(found)]

    async def churn(self, months: Months) -> Sequence[Churn]:
        rows = await self._fetch(_CHURN, *_spans(months))
        return [Churn(*row.values()) for row in rows]

    async def active(
        self, days: Days, grain: Grain, *, by_tier: bool, by_service: bool
    ) -> Sequence[Active]:
        statement = _ACTIVE.format(
            tier="tier" if by_tier else f"'{ALL}'",
            service="service" if by_service else f"'{ALL}'",
            which="<>" if by_service else "=",
        )
        # A week or month that began before the first day asked for holds that day.
        rows = await self._fetch(statement, grain.value, _beginning(grain, days.first), days.last)
        return [Active(*row.values()) for row in rows]

    async def conversion(self, months: Months, within: timedelta) -> Sequence[Conversion]:
        rows = await self._fetch(_CONVERSION, *_cohorts(months), within.days)
        found = {row["cohort"]: (row["users"], row["converted"]) for row in rows}
        return [
            Conversion(month, *found.get(month, (0, 0)), is_complete=_next(month) + within <= today)
            for today in [months.now.date()]
            for month in months
        ]

    async def retention(self, months: Months) -> Sequence[Retention]:
        sizes = {
            row["cohort"]: row["users"] for row in await self._fetch(_SIZES, *_cohorts(months))
        }
        active = {
            (row["cohort"], row["month"]): row["active"]
            for row in await self._fetch(_RETENTION, *_cohorts(months))
        }
        listed = list(months)
        return [
            Retention(cohort, sizes.get(cohort, 0), later, active.get((cohort, month), 0))
            for place, cohort in enumerate(listed)
            for later, month in enumerate(listed[place:])
        ]

    async def usage(self, days: Days, facets: Sequence[Facet]) -> Sequence[TotalUsage]:
        keys = "".join(f"{_FACETS[facet]} as {facet.value}_, " for facet in facets)
        sums = ", ".join(f"{measure} as {name}" for name, measure in _MEASURES.items())
        places = ", ".join(str(place + 1) for place in range(len(facets)))
        grouped = f"group by {places} order by {places}" if facets else "having count(*) > 0"
        rows = await self._fetch(
            f"select {keys}{sums} from {_TOTALS} {grouped}",  # noqa: S608 - names of ours
            days.first,
            days.last,
        )
        return [
            TotalUsage(
                {facet: row[f"{facet.value}_"] for facet in facets},
                **{name: int(row[name]) for name in _MEASURES},
            )
            for row in rows
        ]

    async def usage_by_tier(self, months: Months) -> Sequence[TierUsage]:
        days = Days.of(months)
        rows = await self._fetch(_BY_TIER, days.first, days.last)
        return [TierUsage(*row.values()) for row in rows]


def _spans(months: Months) -> tuple[list[object], list[object]]:
    return [begins for begins, _ in months.spans], [ends for _, ends in months.spans]


def _cohorts(months: Months) -> tuple[date, date]:
    return months.first, _next(months.last)


def _next(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _beginning(grain: Grain, day: date) -> date:
    if grain is Grain.DAY:
        return day
    return day.replace(day=1) if grain is Grain.MONTH else day - timedelta(days=day.weekday())
