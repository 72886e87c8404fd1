"""What the books say of an invoice that was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from services.billing.domain.giving_back import Family, FamilyId
from services.billing.domain.invoice import CreditNoteId, Invoice, InvoiceLine, LineId, Source
from services.billing.domain.invoice_ports import Found, Proof, Sums
from services.billing.domain.invoicing import CoveredCharge
from services.billing.storage.charges import from_row as charge_from_row
from services.billing.storage.invoice_cover import COUNTS, FEES, PATIENCE_SECONDS, usage_of
from services.billing.storage.line_families import families
from shared.db.archive import ids_digest
from shared.db.database import Connection, Row

_SUMS = "subtotal_microusd, net_cents, total_cents, carried_microusd"
_OF_INVOICE = f"select {_SUMS} from invoice where id = $1"  # noqa: S608 - made of our own SQL
_OF_NOTES = f"select id, {_SUMS} from credit_note where invoice_id = $1"  # noqa: S608
_LOST_CREDITS = """
select count(*) as lines from credit_note_line c join invoice_line l on l.id = c.line_id
where l.invoice_id = $1 and not exists (select 1 from credit_note n where n.id = c.credit_note_id)
"""

_KEY = (
    "line_id, aspect, kind, tier, provider, model, operation, month, unit, basis_points, unpriced"
)
_SUMMED = (*COUNTS, "units")
# As a run makes lines, but by what stands on each: entries' costs count where the line knew them,
# and corrections have a unit where their line has one. $1 the invoice, $2 its month, $3 its holder.
_FOUND = f"""
with {FEES}, sources as (
    select t.line_id, t.source_id, t.aspect, t.unpriced,
           coalesce(e.tier, r.tier) as tier,
           coalesce(e.provider, k.provider) as provider, coalesce(e.model, k.model) as model,
           coalesce(e.operation, k.operation) as operation,
           coalesce(e.occurred_at, k.occurred_at) as occurred_at,
           date_trunc('month', coalesce(e.occurred_at, k.occurred_at), 'UTC')::date as month,
           case when t.aspect <> 'correction' or l.facts ? 'unit' then coalesce(e.unit, r.unit) end
               as unit,
           case when t.aspect <> 'correction' then coalesce(e.units, 0)
                when k.kind = 'voided' and l.facts ? 'unit' then coalesce(-r.units, 0)
                else 0 end as units,
           {", ".join(f"coalesce(e.{name}, k.{name}, 0) as {name}" for name in COUNTS)},
           coalesce(k.requests, 1) as requests,
           case t.aspect
               when 'charge' then c.amount_microusd
               when 'correction' then k.cost_microusd
               when 'carry' then coalesce(o.carried_microusd, -n.carried_microusd)
               else case when t.unpriced then null else e.cost_microusd end
           end as cost,
           t.aspect in ('usage', 'priced') and e.event_id is null
               or t.aspect = 'correction' and r.event_id is null as is_archived,
           case when t.aspect = 'correction' then (
               select i.line_id from invoice_item i
               where i.source_id = k.event_id and i.aspect in ('usage', 'priced')
               order by i.aspect limit 1) end as corrects,
           t.holder_id <> $3
               or coalesce(e.user_id, k.user_id, c.holder_id, o.holder_id, n.holder_id, $3) <> $3
               as is_strange
    from invoice_line l join invoice_item t on t.line_id = l.id
    left join ledger_entry e on t.aspect in ('usage', 'priced') and e.event_id = t.source_id
    left join charge c on t.aspect = 'charge' and c.id = t.source_id
    left join ledger_correction k on t.aspect = 'correction' and k.id = t.source_id
    left join lateral (
        select * from ledger_entry where event_id = k.event_id limit 1
    ) as r on true
    left join invoice o on t.aspect = 'carry' and o.id = t.source_id
    left join credit_note n on t.aspect = 'carry' and n.id = t.source_id
    where l.invoice_id = $1
), placed as (
    select s.*, coalesce(f.basis_points, 0) as basis_points,
           case when s.aspect = 'correction' then 'correction'
                when s.aspect = 'usage' and s.month = $2::date then 'usage'
                else 'late_usage' end as kind
    from sources s left join fees f
      on f.tier = s.tier and s.occurred_at >= f.effective_from and s.occurred_at < f.until
)
select $3::uuid as holder_id, null::uuid as family, {_KEY}, sum(requests) as requests,
       {", ".join(f"sum({name}) as {name}" for name in _SUMMED)},
       coalesce(sum(cost), 0) as cost, count(*) as items, {ids_digest("source_id")} as digest,
       array_agg(distinct corrects) filter (where corrects is not null) as corrects,
       count(*) filter (where is_archived) as archived,
       count(*) filter (where is_strange) as strangers
from placed group by {_KEY}
"""  # noqa: S608 - made of the names above
_CHARGED = f"""
select c.*, t.line_id, (select {ids_digest("one.id")} from (select c.id) as one) as digest
from invoice_line l join invoice_item t on t.line_id = l.id and t.aspect = 'charge'
join charge c on c.id = t.source_id
where l.invoice_id = $1
"""  # noqa: S608 - made of our own SQL
# What the run of the month covered of this holder. What came before was the affair of runs before;
# corrections are made later, too.
_MISSING = """
with run as (select * from invoice_run where month = $1),
covered as (
    select e.event_id as source_id, 'usage' as aspect, true as is_due
    from run join ledger_entry e on e.user_id = $2
    where e.occurred_at >= run.previous_ends and e.occurred_at < $3
      and e.received_at <= run.received_until and not e.sandbox
    union all
    select e.event_id, 'usage', true
    from run join ledger_entry e on e.user_id = $2
    where e.occurred_at < run.previous_ends and e.received_at > run.received_after
      and e.received_at <= run.received_until and not e.sandbox
      and not exists (select 1 from aged_usage a where a.event_id = e.event_id)
    union all
    select id, 'correction', false from ledger_correction
    where user_id = $2 and occurred_at < $3 and not sandbox
    union all
    select id, 'charge', false from charge where holder_id = $2 and charged_at < $3
    union all
    select source_id, 'priced', false from invoice_item where holder_id = $2 and unpriced
    union all
    select id, 'carry', false from invoice where holder_id = $2
    union all
    select id, 'carry', false from credit_note where holder_id = $2
)
select count(*) as records
from covered c
left join invoice_item t on (t.source_id, t.aspect) = (c.source_id, c.aspect)
left join invoice_line l on l.id = t.line_id
where l.id is null and (c.is_due or t.source_id is not null)
"""


async def proof(connection: Connection, invoice: Invoice) -> Proof:
    """All that an invoice can be held against."""
    month, holder = invoice.month, invoice.holder
    [sums] = await connection.fetch(_OF_INVOICE, invoice.id)
    notes = await connection.fetch(_OF_NOTES, invoice.id)
    [lost] = await connection.fetch(_LOST_CREDITS, invoice.id)
    rows = await connection.fetch(
        _FOUND, invoice.id, month.first_day, holder, timeout=PATIENCE_SECONDS
    )
    charged = await connection.fetch(_CHARGED, invoice.id, timeout=PATIENCE_SECONDS)
    [missing] = await connection.fetch(
        _MISSING, month.first_day, holder, month.period.ends, timeout=PATIENCE_SECONDS
    )
    standing = await families(connection, [line.family_id for line in invoice.lines])
    return Proof(
        sums=_sums(sums),
        lines=_found(invoice, rows, charged, standing),
        notes={CreditNoteId(row["id"]): _sums(row) for row in notes},
        missing=missing["records"],
        lost_credits=lost["lines"],
    )


def _sums(row: Row) -> Sums:
    return Sums(
        int(row["subtotal_microusd"]),
        int(row["net_cents"]),
        int(row["total_cents"]),
        int(row["carried_microusd"]),
    )


def _found(
    invoice: Invoice,
    rows: Sequence[Row],
    charged: Sequence[Row],
    standing: Mapping[FamilyId, Family],
) -> Mapping[LineId, Found]:
    by_line: dict[UUID, list[Row]] = {line.id: [] for line in invoice.lines}
    family_ids = {UUID(str(line.id)): line.family_id for line in invoice.lines}
    for row in rows:
        by_line[UUID(bytes=row["line_id"].bytes)].append(row)
    fees = {
        LineId(UUID(bytes=row["line_id"].bytes)): CoveredCharge(
            charge_from_row(row), row["digest"]
        ).line
        for row in charged
    }
    return {
        LineId(line_id): Found(
            source=_merged(some),
            sum_microusd=sum(0 if row["unpriced"] else int(row["cost"]) for row in some),
            archived=sum(row["archived"] for row in some),
            strangers=sum(row["strangers"] for row in some),
            line=_made_of(some, fees.get(LineId(line_id))),
            family=standing.get(family_ids[line_id]),
            corrects=frozenset(
                FamilyId(UUID(bytes=one.bytes)) for row in some for one in row["corrects"] or ()
            ),
        )
        for line_id, some in by_line.items()
    }


def _merged(rows: Sequence[Row]) -> Source:
    digest = 0
    for row in rows:
        digest ^= int(row["digest"], 16)
    return Source(sum(row["items"] for row in rows), f"{digest:032x}")


def _made_of(rows: Sequence[Row], fee: InvoiceLine | None) -> InvoiceLine | None:
    if len(rows) != 1 or rows[0]["archived"]:
        return None
    [row] = rows
    if row["aspect"] == "charge":
        return fee
    return None if row["aspect"] == "carry" else usage_of(row).line
