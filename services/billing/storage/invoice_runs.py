"""How far the invoices of months have come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.billing.domain.closing import ClosedPeriod, Month
from services.billing.domain.invoicing import Due, Run, Scope, month_after
from services.billing.domain.subscription import Holder
from services.billing.storage.aged_usage import HOLD_AGED
from services.billing.storage.invoice_cover import PATIENCE_SECONDS
from services.billing.storage.periods import from_row as period_from_row
from shared.db.database import Connection, Row
from shared.ids import UserId

_TAKE_TURN = "select pg_advisory_xact_lock(4248)"
_GET = "select * from invoice_run where month = $1"
_HOLD = "select * from invoice_run where month = $1 for update"
_LAST = "select * from invoice_run order by month desc limit 1"
_UNFINISHED = "select * from invoice_run where finished_at is null order by month limit 1"
_FIRST_CLOSED = "select * from period order by month limit 1"
_CLOSED = "select * from period where month = $1"

_BEGIN = """
insert into invoice_run
    (month, previous_ends, received_after, received_until, begun_at, begun_by, holders)
values ($1, $2, $3, $4, $5, $6, 0) on conflict do nothing returning month
"""
# Everybody of whom something is not invoiced yet, in one go: page by page it would be read anew.
# Only of what is left of the corrections is the entry looked up, one by one: joined, it may be read
# out of all of the ledger.
_LIST_HOLDERS = """
with corrected as materialized (
    select c.user_id, c.event_id from ledger_correction c
    where c.occurred_at < $2 and not c.sandbox
      and not exists (select 1 from invoice_item i
                      where i.source_id = c.id and i.aspect = 'correction')
      and not exists (select 1 from aged_usage a
                      where a.event_id = c.event_id and a.released_at is null)
), found as (
    select holder_id, is_organisation, null::uuid as late from charge c
    where charged_at < $2
      and not exists (select 1 from invoice_item i where i.source_id = c.id and i.aspect = 'charge')
    union all
    select distinct user_id, false, null::uuid from ledger_entry
    where occurred_at >= $3 and occurred_at < $2 and received_at <= $5 and not sandbox
    union all
    select user_id, false, event_id from ledger_entry e
    where occurred_at < $3 and received_at > $4 and received_at <= $5 and not sandbox
      and not exists (select 1 from aged_usage a where a.event_id = e.event_id)
    union all
    select e.user_id, false, e.event_id from aged_usage a join ledger_entry e using (event_id)
    where a.released_at is not null and e.occurred_at < $3
      and not exists (select 1 from invoice_item i
                      where i.source_id = a.event_id and i.aspect = 'usage')
    union all
    select user_id, false, null::uuid from corrected c
    where coalesce((select e.received_at from ledger_entry e
                    where e.event_id = c.event_id limit 1) <= $5, true)
    union all
    select i.holder_id, false, null::uuid
    from invoice_item i join ledger_entry e on e.event_id = i.source_id
    where i.unpriced and e.cost_microusd is not null
      and not exists (select 1 from invoice_item known
                      where known.source_id = i.source_id and known.aspect = 'priced')
), listed as (
    insert into invoice_due (month, holder_id, is_organisation, late)
    select $1, holder_id, bool_or(is_organisation),
           coalesce(array_agg(late order by late) filter (where late is not null), '{}')
    from found group by holder_id
    returning holder_id
)
update invoice_run set holders = (select count(*) from listed) where month = $1
"""
_TAKE = """
delete from invoice_due d using (
    select month, holder_id from invoice_due where month = $1 order by holder_id limit $2
) as next
where (d.month, d.holder_id) = (next.month, next.holder_id)
returning d.holder_id, d.is_organisation, d.late
"""
_WENT_ON = """
update invoice_run set invoices = invoices + $2, finished_at = $3 where month = $1
"""


class SqlInvoiceRuns:
    """Runs on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def next_closed(self) -> ClosedPeriod | None:
        last = await self.last()
        if last is None:
            row = await self._connection.fetchrow(_FIRST_CLOSED)
        else:
            row = await self._connection.fetchrow(_CLOSED, month_after(last.month).first_day)
        return period_from_row(row) if row else None

    async def next_name(self) -> str | None:
        last = await self.last()
        if last is not None:
            return month_after(last.month).name
        row = await self._connection.fetchrow(_FIRST_CLOSED)
        return Month(row["month"]).name if row else None

    async def get(self, month: Month) -> Run | None:
        return _run(await self._connection.fetchrow(_GET, month.first_day))

    async def last(self) -> Run | None:
        return _run(await self._connection.fetchrow(_LAST))

    async def unfinished(self) -> Run | None:
        return _run(await self._connection.fetchrow(_UNFINISHED))

    async def take_turn(self) -> None:
        await self._connection.execute(_TAKE_TURN, timeout=PATIENCE_SECONDS)

    async def begin(
        self, scope: Scope, *, at: datetime, by: UserId | None, aged_after: timedelta | None
    ) -> bool:
        window = (scope.previous_ends, scope.received_after, scope.received_until)
        begun = await self._connection.fetchrow(_BEGIN, scope.month.first_day, *window, at, by)
        if begun is None:
            return False
        await self._connection.execute(HOLD_AGED, *window, aged_after, timeout=PATIENCE_SECONDS)
        await self._connection.execute(
            _LIST_HOLDERS,
            scope.month.first_day,
            scope.month.period.ends,
            *window,
            timeout=PATIENCE_SECONDS,
        )
        return True

    async def hold(self, month: Month) -> Run | None:
        row = await self._connection.fetchrow(_HOLD, month.first_day, timeout=PATIENCE_SECONDS)
        return _run(row)

    async def take(self, month: Month, *, most: int) -> Sequence[Due]:
        rows = await self._connection.fetch(_TAKE, month.first_day, most)
        dues = [
            Due(Holder(UserId(row["holder_id"]), row["is_organisation"]), row["late"])
            for row in rows
        ]
        return sorted(dues, key=lambda due: due.holder.id)

    async def went_on(self, month: Month, *, invoices: int, finished_at: datetime | None) -> None:
        await self._connection.execute(_WENT_ON, month.first_day, invoices, finished_at)


def _run(row: Row | None) -> Run | None:
    if row is None:
        return None
    scope = Scope(
        Month(row["month"]), row["previous_ends"], row["received_after"], row["received_until"]
    )
    return Run(
        scope,
        row["begun_at"],
        UserId(row["begun_by"]) if row["begun_by"] else None,
        row["holders"],
        row["invoices"],
        row["finished_at"],
    )
