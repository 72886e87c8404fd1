"""Usage that came long after it was used: which of it waits, and who said that it is billed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.billing.domain.aged_usage import AgedGroup, AgedUsage, HeldUsage
from services.billing.domain.closing import Month
from shared.db.archive import ids_digest
from shared.db.database import Connection, Row
from shared.ids import EventId, UserId

PATIENCE_SECONDS = 600.0

# What a run leaves for later is kept here, so that another `BILLING_AGED_USAGE_DAYS` loses nothing.
# $1 the end of what was invoiced before, $2 received after, $3 received until, $4 the age.
HOLD_AGED = """
insert into aged_usage (event_id, held_at)
select event_id, now() from ledger_entry
where occurred_at < $1 and received_at > $2 and received_at <= $3 and not sandbox
  and received_at - occurred_at > $4
order by event_id  -- as whoever decides keeps them: in two orders each would wait for the other
on conflict do nothing
"""

_VOIDED = """exists (
    select 1 from ledger_correction c where c.event_id = e.event_id and c.kind = 'voided'
)"""
# What has come since the last run is in no table yet. $1 the age; null: none waits any more. That
# it was used before is said beside how old it is, for the index: little is read of new months.
_WAITING = f"""
with waiting as (
    select e.*, a.approved_by, a.approved_at, a.approval_reason
    from aged_usage a join ledger_entry e using (event_id)
    where a.released_at is null and not {_VOIDED}
    union all
    select e.*, null::uuid, null::timestamptz, null::text
    from ledger_entry e
    where e.received_at > coalesce((select max(received_until) from invoice_run), '-infinity')
      and e.occurred_at < now() - $1::interval
      and e.received_at - e.occurred_at > $1 and not e.sandbox
      and exists (select 1 from period p where p.closed_at < e.received_at
                  and e.occurred_at < (p.month + interval '1 month') at time zone 'UTC')
      and not exists (select 1 from aged_usage a where a.event_id = e.event_id)
      and not exists (select 1 from invoice_item i
                      where i.source_id = e.event_id and i.aspect = 'usage')
      and not {_VOIDED}
)
"""  # noqa: S608 - made of our own SQL
_MONTH = "date_trunc('month', occurred_at, 'UTC')::date"
_LIST = f"""{_WAITING}
select user_id, {_MONTH} as month, producer, approved_by, count(*) as events,
       {ids_digest("event_id")} as ids, count(*) filter (where cost_microusd is null) as unpriced,
       coalesce(sum(cost_microusd), 0) as cost,
       min(occurred_at) as used_from, max(occurred_at) as used_until,
       min(received_at) as received_from, max(received_at) as received_until,
       max(approved_at) as approved_at, max(approval_reason) as approval_reason
from waiting group by user_id, {_MONTH}, producer, approved_by
order by month, user_id, producer, approved_by nulls first limit $2
"""  # noqa: S608 - made of our own SQL
_COUNT = f"{_WAITING} select count(*) as events from waiting"  # noqa: S608 - made of our own SQL
_KEEP = f"""{_WAITING}
insert into aged_usage (event_id, held_at)
select event_id, now() from waiting
where user_id = $2 and {_MONTH} = $3 and producer = $4
order by event_id
on conflict do nothing
"""  # noqa: S608 - made of our own SQL
# Whoever decides at the same time waits here, and sees afterwards, by another statement, what was
# decided: this one would go on with the corrections that were there when it began.
_HOLD = f"""
select a.event_id from aged_usage a join ledger_entry e using (event_id)
where a.released_at is null and e.user_id = $1 and {_MONTH} = $2 and e.producer = $3
order by a.event_id for update of a
"""  # noqa: S608 - made of our own SQL
_HELD = f"""
select e.event_id, e.approved_by from aged_usage e
where e.event_id = any($1::uuid[]) and e.released_at is null and not {_VOIDED}
order by e.event_id
"""  # noqa: S608 - made of our own SQL
_DIGEST = f"select {ids_digest('id')} as ids from unnest($1::uuid[]) as given (id)"  # noqa: S608
_APPROVE = """
update aged_usage set approved_by = $2, approved_at = $3, approval_reason = $4
where event_id = any($1::uuid[])
"""
_RELEASE = """
update aged_usage set released_by = $2, released_at = $3, release_reason = $4
where event_id = any($1::uuid[])
"""


class SqlAgedUsages:
    """Both on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def waiting(self, after: timedelta | None, *, most: int) -> Sequence[AgedUsage]:
        rows = await self._connection.fetch(_LIST, after, most, timeout=PATIENCE_SECONDS)
        return [_usage(row) for row in rows]

    async def count(self, after: timedelta | None) -> int:
        row = await self._connection.fetchrow(_COUNT, after, timeout=PATIENCE_SECONDS)
        return int(row["events"]) if row else 0

    async def hold(self, group: AgedGroup, after: timedelta | None) -> HeldUsage | None:
        which = (group.user_id, group.month.first_day, group.producer)
        await self._connection.execute(_KEEP, after, *which, timeout=PATIENCE_SECONDS)
        locked = await self._connection.fetch(_HOLD, *which, timeout=PATIENCE_SECONDS)
        ids = [row["event_id"] for row in locked]
        by_approver: dict[UserId | None, list[EventId]] = {}
        for row in await self._connection.fetch(_HELD, ids, timeout=PATIENCE_SECONDS):
            by_approver.setdefault(row["approved_by"], []).append(EventId(row["event_id"]))
        for approver, events in by_approver.items():
            found = await self._connection.fetchrow(_DIGEST, events)
            if found is not None and found["ids"] == group.ids:
                return HeldUsage(events, approver)
        return None

    async def approve(
        self, events: Sequence[EventId], *, by: UserId, at: datetime, reason: str
    ) -> None:
        await self._connection.execute(_APPROVE, list(events), by, at, reason)

    async def release(
        self, events: Sequence[EventId], *, by: UserId, at: datetime, reason: str
    ) -> None:
        await self._connection.execute(_RELEASE, list(events), by, at, reason)


def _usage(row: Row) -> AgedUsage:
    return AgedUsage(
        AgedGroup(UserId(row["user_id"]), Month(row["month"]), row["producer"], row["ids"]),
        row["events"],
        row["unpriced"],
        int(row["cost"]),
        row["used_from"],
        row["used_until"],
        row["received_from"],
        row["received_until"],
        UserId(row["approved_by"]) if row["approved_by"] else None,
        row["approved_at"],
        row["approval_reason"],
    )
