"""What ran on an organisation's keys, added up from the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from services.billing.domain.organisation_usage import Key, KeyDimension, KeyGroup, KeySpending
from services.billing.domain.period import Period
from services.billing.domain.usage_report import Sums
from services.billing.storage.ledger_chain import COUNTS, SUMS
from shared.db.database import Connection, Row

_DAY = "({} at time zone 'UTC')::date"
_KEYS = {
    KeyDimension.MEMBER: ("user_id", "uuid"),
    KeyDimension.DAY: ("day", "date"),
    KeyDimension.PROVIDER: ("provider", "text"),
    KeyDimension.MODEL: ("model", "text"),
    KeyDimension.OPERATION: ("operation", "text"),
}
_SUMMED = ", ".join(f"sum({name}) as {name}" for name in SUMS)
# A large organisation's month are hundreds of thousands of calls, all of them in one index.
_PATIENCE_SECONDS = 20.0


class SqlKeySpending:
    """It on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of(
        self,
        organisation_id: UUID,
        period: Period,
        dimensions: Sequence[KeyDimension],
        *,
        sandbox: bool | None,
        after: Sequence[Key] | None,
        most: int,
    ) -> KeySpending:
        columns = [_KEYS[dimension][0] for dimension in dimensions]
        rows = await self._connection.fetch(
            statement(dimensions, is_first=after is None),
            organisation_id,
            period.begins,
            period.ends,
            sandbox,
            most,
            *(after or ()),
            timeout=_PATIENCE_SECONDS,
        )
        groups = [
            KeyGroup(tuple(row[name] for name in columns), _sums(row, ""))
            for row in rows
            if row["requests"]
        ]
        return KeySpending(groups, _sums(rows[0], "all_"))


def statement(dimensions: Sequence[KeyDimension], *, is_first: bool) -> str:
    """The groups after a key, each beside the sums of all; one row without a group if there are
    none."""
    columns = [_KEYS[dimension][0] for dimension in dimensions]
    given = [f"${i}::{_KEYS[dimension][1]}" for i, dimension in enumerate(dimensions, 6)]
    keys = ", ".join(columns)
    after = "" if is_first or not columns else f"and ({keys}) > ({', '.join(given)})"
    ordered = f"order by {keys}" if keys else ""
    return f"""
    with {_by_user([name for name in columns if name != "user_id"])}, grouped as materialized (
        select {keys + "," if keys else ""} {_SUMMED}
        from (
            select * from calls
            union all select * from corrections
            union all select * from archived
        ) as part {f"group by {keys}" if keys else ""}
    ), totals as (
        select {", ".join(f"coalesce(sum({name}), 0) as all_{name}" for name in SUMS)} from grouped
    )
    select * from totals left join (
        select * from grouped where requests > 0 {after} {ordered} limit $5
    ) as page on true {ordered}
    """  # noqa: S608 - made of the names above


def _by_user(columns: Sequence[str]) -> str:
    """The three places that sums come from. By user first: only their corrections are looked at.
    The limit says that each entry is looked up by its id."""
    others = "".join(f", {name}" for name in columns)
    is_asked_for = "and ($4::boolean is null or sandbox = $4)"
    return f"""calls as materialized (
        select user_id{others}, count(*) as requests,
               count(*) filter (where cost_microusd is null) as unpriced_requests,
               {", ".join(f"sum({name}) as {name}" for name in COUNTS)},
               coalesce(sum(cost_microusd), 0) as cost_microusd
        from (
            select *, {_DAY.format("occurred_at")} as day from ledger_entry
            where key_organisation_id = $1 and occurred_at >= $2 and occurred_at < $3
              {is_asked_for}
        ) as entry
        group by user_id{others}
    ), corrections as (
        select c.user_id{others}, {_SUMMED}
        from (select *, {_DAY.format("occurred_at")} as day from ledger_correction) as c
        cross join lateral (
            select 1 from ledger_entry e
            where e.event_id = c.event_id and e.key_organisation_id = $1
            limit 1
        ) as its
        where c.user_id in (select user_id from calls)
          and c.occurred_at >= $2 and c.occurred_at < $3 {is_asked_for}
        group by c.user_id{others}
    ), archived as (
        select user_id{others}, {_SUMMED}
        from (select *, {_DAY.format("hour")} as day from usage_archived_organisation_hour) as a
        where organisation_id = $1 and hour >= $2 and hour < $3 {is_asked_for}
        group by user_id{others}
    )"""  # noqa: S608 - made of the names above


def _sums(row: Row, prefix: str) -> Sums:
    numbers: dict[str, Any] = {name: int(row[prefix + name]) for name in SUMS}
    return Sums(known_cost=numbers.pop("cost_microusd"), **numbers)
