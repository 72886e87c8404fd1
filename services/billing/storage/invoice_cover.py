"""What invoices are made of: charges, entries of the ledger, corrections, and rests of cents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from services.billing.domain.giving_back import FamilyId
from services.billing.domain.invoice import LineId, LineKind, Source
from services.billing.domain.invoicing import (
    NEVER,
    Carried,
    Covered,
    CoveredCharge,
    CoveredUsage,
    Due,
    Scope,
    rounding_line_id,
)
from services.billing.storage.charges import from_row
from services.billing.storage.line_families import families, hold_books
from shared.db.archive import ids_digest
from shared.db.database import Connection, Row
from shared.ids import UserId

COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
)
PATIENCE_SECONDS = 600.0
_KEY = (
    "holder_id, kind, tier, provider, model, operation, month, unit, basis_points, unpriced, aspect"
)
_COVERED = f"source_id, {_KEY}, requests, {', '.join(COUNTS)}, units, cost_microusd"
_MONTH = "date_trunc('month', {0}.occurred_at, 'UTC')::date"
_NAMES = "{0}.tier, {0}.provider, {0}.model, {0}.operation"
_NUMBERS = ", ".join(f"{{0}}.{name}" for name in COUNTS)

FEES = """fees as (
    select tier, basis_points, effective_from,
           lead(effective_from, 1, 'infinity')
               over (partition by tier order by effective_from) as until
    from usage_fee
)"""
# A correction's line is one of what stands on the same line, whose family it is of: the later price
# where there is one (`priced` comes before `usage`), in this run or before.
# $1 the month, $2 its begin, $3 its end, $4 the end of what was invoiced before, $5 received until,
# $6 holders, $7 late entries, $8 received after, $9 how long after its use what is told waits, $10
# whether what an earlier month has yet to cover is left to it: later prices, and what corrects it.
_USAGE = f"""
with {FEES}, entries as (
    select e.* from unnest($6::uuid[]) as h (id) join ledger_entry e on e.user_id = h.id
    where e.occurred_at >= $4 and e.occurred_at < $3 and e.received_at <= $5 and not e.sandbox
    union all
    select e.* from ledger_entry e where e.event_id = any($7::uuid[])
), sources as (
    select e.event_id as source_id, 'usage' as aspect, e.user_id as holder_id,
           case when e.occurred_at >= $2 then 'usage' else 'late_usage' end as kind,
           {_NAMES.format("e")},
           case when e.occurred_at >= $2 then $1::date else {_MONTH.format("e")} end as month,
           e.unit, e.occurred_at, e.cost_microusd, e.cost_microusd is null as unpriced,
           1 as requests, {_NUMBERS.format("e")}, e.units
    from entries e
    union all
    select e.event_id, 'priced', e.user_id, 'late_usage', {_NAMES.format("e")},
           {_MONTH.format("e")}, e.unit, e.occurred_at, e.cost_microusd, false,
           1, {_NUMBERS.format("e")}, e.units
    from invoice_item i join ledger_entry e on e.event_id = i.source_id
    where not $10 and i.unpriced and i.holder_id = any($6::uuid[]) and e.cost_microusd is not null
      and not exists (select 1 from invoice_item known
                      where known.source_id = i.source_id and known.aspect = 'priced')
), priced as (
    select s.*, coalesce(f.basis_points, 0) as basis_points
    from sources s left join fees f
      on f.tier = s.tier and s.occurred_at >= f.effective_from and s.occurred_at < f.until
), lined as materialized (
    select *, md5(row($1::date, {_KEY})::text)::uuid as line_id, null::uuid as family from priced
), here as (
    select distinct on (source_id) source_id, line_id from lined order by source_id, aspect
), corrections as (
    select c.id as source_id, 'correction' as aspect, c.user_id as holder_id,
           'correction' as kind, coalesce(e.tier, '') as tier, c.provider, c.model, c.operation,
           {_MONTH.format("c")} as month, e.unit, c.occurred_at, c.cost_microusd,
           false as unpriced, c.requests, {_NUMBERS.format("c")},
           case when c.kind = 'voided' then coalesce(-e.units, 0) else 0 end as units,
           coalesce(here.line_id, (
               select i.line_id from invoice_item i
               where i.source_id = c.event_id and i.aspect in ('usage', 'priced')
               order by i.aspect limit 1)) as family
    from ledger_correction c left join here on here.source_id = c.event_id left join lateral (
        select tier, unit, units, occurred_at, received_at, event_id from ledger_entry
        where event_id = c.event_id limit 1
    ) as e on true
    where c.user_id = any($6::uuid[]) and c.occurred_at < $3 and not c.sandbox
      and (e.event_id is null or e.received_at <= $5)
      and (not $10 or c.occurred_at >= $4 or e.received_at > $8)
      and coalesce(
          -- Released only now, while this run is on its way, its usage comes with the next one.
          (select a.released_at is not null and (a.event_id = any($7::uuid[]) or exists (
               select 1 from invoice_item known
               where known.source_id = a.event_id and known.aspect = 'usage'))
           from aged_usage a where a.event_id = c.event_id),
          not (e.occurred_at < $4 and e.received_at > $8 and e.received_at - e.occurred_at > $9),
          true)
      and not exists (select 1 from invoice_item known
                      where known.source_id = c.id and known.aspect = 'correction')
), corrected as (
    select s.*, coalesce(f.basis_points, 0) as basis_points
    from corrections s left join fees f
      on f.tier = s.tier and s.occurred_at >= f.effective_from and s.occurred_at < f.until
), covered as materialized (
    select {_COVERED}, line_id, family from lined
    union all
    select {_COVERED}, md5(row($1::date, {_KEY}, family)::text)::uuid, family from corrected
)"""  # noqa: S608 - made of the names above
_KEEP_USAGE = """, kept as (
    insert into invoice_item (source_id, aspect, line_id, holder_id, unpriced)
    select source_id, aspect, line_id, holder_id, unpriced from covered
)"""
_SUM_USAGE = f"""
select line_id, family, {_KEY}, sum(requests) as requests,
       {", ".join(f"sum({name}) as {name}" for name in (*COUNTS, "units"))},
       sum(cost_microusd) as cost, count(*) as items, {ids_digest("source_id")} as digest
from covered group by line_id, family, {_KEY}
"""  # noqa: S608 - made of the names above

# $1 holders, $2 the end of the month, $3 since when: before that it is another's.
_CHARGED = """
with covered as materialized (
    select c.* from charge c
    where c.holder_id = any($1::uuid[]) and c.charged_at < $2 and c.charged_at >= $3
      and not exists (select 1 from invoice_item known
                      where known.source_id = c.id and known.aspect = 'charge')
)"""
_KEEP_CHARGED = """, kept as (
    insert into invoice_item (source_id, aspect, line_id, holder_id, unpriced)
    select id, 'charge', id, holder_id, false from covered
)"""
_LIST_CHARGED = f"""
select c.*, (select {ids_digest("one.id")} from (select c.id) as one) as digest
from covered c order by c.holder_id, c.id
"""  # noqa: S608 - made of our own SQL

# $1 holders, $2 the line of each.
_CARRIED = """
with covered as materialized (
    select id as source_id, holder_id, carried_microusd as rest from invoice
    where holder_id = any($1::uuid[]) and carried_microusd <> 0
    union all
    select id, holder_id, -carried_microusd from credit_note
    where holder_id = any($1::uuid[]) and carried_microusd <> 0
), fresh as materialized (
    select covered.*, given.line_id
    from covered join unnest($1::uuid[], $2::uuid[]) as given (holder_id, line_id)
      using (holder_id)
    where not exists (select 1 from invoice_item known
                      where known.source_id = covered.source_id and known.aspect = 'carry')
)"""
_KEEP_CARRIED = """, kept as (
    insert into invoice_item (source_id, aspect, line_id, holder_id, unpriced)
    select source_id, 'carry', line_id, holder_id, false from fresh
)"""
_SUM_CARRIED = f"""
select holder_id, sum(rest) as rest, count(*) as items, {ids_digest("source_id")} as digest
from fresh group by holder_id
"""  # noqa: S608 - made of our own SQL


async def cover(
    connection: Connection,
    scope: Scope,
    dues: Sequence[Due],
    *,
    keep: bool,
    aged_after: timedelta | None,
) -> Covered:
    """All that some holders' invoices are made of."""
    holders = [due.holder.id for due in dues]
    period = scope.month.period
    late = [event_id for due in dues for event_id in due.late]
    if keep:
        await hold_books(connection, holders)
    charges = await connection.fetch(
        _CHARGED + (_KEEP_CHARGED if keep else "") + _LIST_CHARGED,
        holders,
        period.ends,
        scope.previous_ends if scope.by_itself else NEVER,
        timeout=PATIENCE_SECONDS,
    )
    usages = await connection.fetch(
        _USAGE + (_KEEP_USAGE if keep else "") + _SUM_USAGE,
        scope.month.first_day,
        period.begins,
        period.ends,
        scope.previous_ends,
        scope.received_until,
        holders,
        late,
        scope.received_after,
        aged_after,
        scope.by_itself,
        timeout=PATIENCE_SECONDS,
    )
    carried = [] if scope.by_itself else await _rests(connection, scope, holders, keep=keep)
    charged = [CoveredCharge(from_row(row), row["digest"]) for row in charges]
    used = [usage_of(row) for row in usages]
    added_to = {one.line.family_id for one in charged} | {one.family for one in used if one.family}
    return Covered(
        charged,
        used,
        [_carried(row) for row in carried],
        await families(connection, list(added_to)),
    )


async def _rests(
    connection: Connection, scope: Scope, holders: Sequence[UserId], *, keep: bool
) -> Sequence[Row]:
    rows: Sequence[Row] = await connection.fetch(
        _CARRIED + (_KEEP_CARRIED if keep else "") + _SUM_CARRIED,
        holders,
        [rounding_line_id(holder, scope.month) for holder in holders],
        timeout=PATIENCE_SECONDS,
    )
    return rows


def usage_of(row: Row) -> CoveredUsage:
    """What makes one line of usage, out of its row."""
    return CoveredUsage(
        line_id=LineId(UUID(bytes=row["line_id"].bytes)),
        holder=UserId(row["holder_id"]),
        kind=LineKind(row["kind"]),
        tier=row["tier"],
        provider=row["provider"],
        model=row["model"],
        operation=row["operation"],
        month=row["month"],
        unit=row["unit"],
        basis_points=row["basis_points"],
        priced_later=row["aspect"] == "priced",
        requests=int(row["requests"]),
        counts={name: int(row[name]) for name in (*COUNTS, "units")},
        cost=None if row["unpriced"] else int(row["cost"]),
        source=Source(row["items"], row["digest"]),
        family=FamilyId(UUID(bytes=row["family"].bytes)) if row["family"] else None,
    )


def _carried(row: Row) -> Carried:
    source = Source(row["items"], row["digest"])
    return Carried(UserId(row["holder_id"]), int(row["rest"]), source)
