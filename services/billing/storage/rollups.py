"""The kept sums by hour and day, compared with the ledger, and put right on somebody's word."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.billing.domain.rollup import Drift, RollupCheck
from services.billing.storage.ledger_chain import COUNTS, SUMS, UNLINKED
from shared.db.database import Connection, Row
from shared.ids import UserId

_KEY = "user_id, begins, provider, model, operation, sandbox"
_SUMMED = ", ".join(f"sum({name}) as {name}" for name in SUMS)
_PLAIN = ", ".join(SUMS)
_HOUR = "date_trunc('hour', occurred_at, 'UTC')"
_HOUR_OF_E = "date_trunc('hour', e.occurred_at, 'UTC')"
_WHOSE = "provider, model, operation, sandbox"

# What there is, what was archived, and what was said about it later. Entries are counted when they
# get their links: hours of users for whom one waits are left for the next time.
_COUNTED = f"""not exists (
    select 1 from ledger_uncounted u join ledger_entry e on e.event_id = any(u.ids)
    where e.user_id = one.user_id and {_HOUR_OF_E} = one.begins
)"""  # noqa: S608 - made of constants
_HOURS_DUE = f"""
    select * from (
        select user_id, {_HOUR} as begins, {_WHOSE},
               1 as requests, (cost_microusd is null)::int as unpriced_requests,
               {", ".join(COUNTS)}, coalesce(cost_microusd, 0) as cost_microusd
        from ledger_entry where occurred_at < $1
        union all
        select user_id, hour, {_WHOSE}, {_PLAIN} from usage_archived_hour where hour < $1
        union all
        select user_id, {_HOUR}, {_WHOSE}, {_PLAIN} from ledger_correction where occurred_at < $1
    ) as one
    where {_COUNTED}
"""  # noqa: S608
_HOURS_KEPT = f"""
    select * from (
        select user_id, hour as begins, {_WHOSE}, {_PLAIN} from usage_hour where hour < $1
    ) as one
    where {_COUNTED}
"""  # noqa: S608

# So are days, which follow when any record gets its link.
_WAITED_FOR = f"""
    select e.user_id, (e.occurred_at at time zone 'UTC')::date as day
    from {UNLINKED} u join ledger_entry e on e.event_id = any(u.ids)
    where u.kind <> 'correction'
    union
    select c.user_id, (c.occurred_at at time zone 'UTC')::date
    from ledger_unlinked u join ledger_correction c on c.id = any(u.ids)
    where u.kind = 'correction'
"""  # noqa: S608 - made of constants
_SETTLED = f"""not exists (
    select 1 from ({_WAITED_FOR}) as w where w.user_id = one.user_id and w.day = one.day
)"""  # noqa: S608
_DAYS_DUE = f"""
    select user_id, day::timestamp at time zone 'UTC' as begins, {_WHOSE}, {_PLAIN}
    from (select *, (hour at time zone 'UTC')::date as day from usage_hour
          where hour < date_trunc('day', $1::timestamptz, 'UTC')) as one
    where {_SETTLED}
"""  # noqa: S608
_DAYS_KEPT = f"""
    select user_id, day::timestamp at time zone 'UTC' as begins, {_WHOSE}, {_PLAIN}
    from usage_day as one
    where day < ($1::timestamptz at time zone 'UTC')::date and {_SETTLED}
"""  # noqa: S608


def _compare(rollup: str, due: str, kept: str) -> str:
    def as_text(side: str) -> str:
        return ", ".join(f"'{name}', coalesce({side}.{name}, 0)::text" for name in SUMS)

    differs = " or ".join(f"coalesce(d.{name}, 0) <> coalesce(k.{name}, 0)" for name in SUMS)
    return f"""
    with due as (select {_KEY}, {_SUMMED} from ({due}) as part group by {_KEY}),
    kept as ({kept}),
    compared as (
        select {_KEY}, {differs} as differs,
               jsonb_build_object({as_text("k")}) as kept, jsonb_build_object({as_text("d")}) as due
        from due d full join kept k using ({_KEY})
    ), found as (
        insert into rollup_drift (rollup, {_KEY}, kept, due, found_at)
        select '{rollup}', {_KEY}, kept, due, $2 from compared where differs
        on conflict do nothing
    )
    select count(*) as compared, count(*) filter (where differs) as drifts from compared
    """  # noqa: S608


_CHECKS = (
    _compare("hour", _HOURS_DUE, _HOURS_KEPT),
    _compare("day", _DAYS_DUE, _DAYS_KEPT),
)
_NOTE = """
insert into rollup_check (checked_at, up_to, compared, drifts) values ($1, $2, $3, $4)
"""
_LAST = "select * from rollup_check order by id desc limit 1"
_OPEN = "select * from rollup_drift where repaired_at is null order by id limit $1"
_HOLD = "select * from rollup_drift where id = $1 and repaired_at is null for update"
_REPAIRED = """
update rollup_drift set repaired_at = $2, repaired_by = $3, reason = $4 where id = $1
"""


def _repair(table: str, begins: str) -> str:
    return f"""
    insert into {table} as known (user_id, {begins}, {_WHOSE}, {_PLAIN})
    values ($1, $2, $3, $4, $5, $6, {", ".join(f"${i}" for i in range(7, 7 + len(SUMS)))})
    on conflict (user_id, {begins}, {_WHOSE}) do update set
        {", ".join(f"{name} = known.{name} + excluded.{name}" for name in SUMS)}
    """  # noqa: S608


_REPAIR = {"hour": _repair("usage_hour", "hour"), "day": _repair("usage_day", "day")}
# Reads the whole ledger, at night, and is in nobody's way.
_PATIENCE_SECONDS = 3600.0


class SqlRollups:
    """The kept sums on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def check(self, *, up_to: datetime, at: datetime) -> RollupCheck:
        compared = drifts = 0
        for statement in _CHECKS:
            row = await self._connection.fetchrow(statement, up_to, at, timeout=_PATIENCE_SECONDS)
            assert row is not None
            compared, drifts = compared + row["compared"], drifts + row["drifts"]
        await self._connection.execute(_NOTE, at, up_to, compared, drifts)
        return RollupCheck(at, up_to, compared, drifts)

    async def last_check(self) -> RollupCheck | None:
        row = await self._connection.fetchrow(_LAST)
        if row is None:
            return None
        return RollupCheck(row["checked_at"], row["up_to"], row["compared"], row["drifts"])

    async def open_drifts(self, *, most: int) -> Sequence[Drift]:
        return [_drift(row) for row in await self._connection.fetch(_OPEN, most)]

    async def hold_drift(self, drift_id: int) -> Drift | None:
        row = await self._connection.fetchrow(_HOLD, drift_id)
        return _drift(row) if row else None

    async def repair(self, drift: Drift, *, by: UserId, reason: str, at: datetime) -> None:
        missing = drift.missing
        await self._connection.execute(
            _REPAIR[drift.rollup],
            drift.user_id,
            drift.begins if drift.rollup == "hour" else drift.begins.date(),
            drift.provider,
            drift.model,
            drift.operation,
            drift.sandbox,
            *(missing[name] for name in SUMS),
        )
        await self._connection.execute(_REPAIRED, drift.id, at, by, reason)


def _drift(row: Row) -> Drift:
    return Drift(
        id=row["id"],
        rollup=row["rollup"],
        user_id=UserId(row["user_id"]),
        begins=row["begins"],
        provider=row["provider"],
        model=row["model"],
        operation=row["operation"],
        sandbox=row["sandbox"],
        kept={name: int(total) for name, total in row["kept"].items()},
        due={name: int(total) for name, total in row["due"].items()},
        found_at=row["found_at"],
        repaired_at=row["repaired_at"],
    )
