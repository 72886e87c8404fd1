"""Invoices, their lines and what those cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.closing import Month
from services.billing.domain.giving_back import FamilyId
from services.billing.domain.invoice import (
    Invoice,
    InvoiceId,
    InvoiceLine,
    LineId,
    LineKind,
    Source,
    Status,
)
from services.billing.domain.invoice_ports import (
    CoveredRecord,
    InvoicedAs,
    InvoiceHead,
    Proof,
    Standing,
)
from services.billing.domain.invoicing import Covered, Due, Scope
from services.billing.domain.tax import TaxLine
from services.billing.storage.charges import from_row as charge_from_row
from services.billing.storage.corrections import from_row as correction_from_row
from services.billing.storage.invoice_cover import PATIENCE_SECONDS, cover
from services.billing.storage.invoice_proof import proof
from services.billing.storage.ledger import from_row as entry_from_row
from services.billing.storage.line_families import add_families
from shared.db.database import Connection, Row
from shared.ids import UserId

_LATE = """
select event_id from ledger_entry e
where user_id = $1 and occurred_at < $2 and not sandbox and (
    received_at > $3 and received_at <= $4
    and ($5::interval is null or received_at - occurred_at <= $5)
    and not exists (select 1 from aged_usage a where a.event_id = e.event_id)
    or not $6 and exists (select 1 from aged_usage a
                          where a.event_id = e.event_id and a.released_at is not null)
    and not exists (select 1 from invoice_item i
                    where i.source_id = e.event_id and i.aspect = 'usage')
)
order by event_id
"""
_DETAILS = """
select holder_id, name, address_lines, city, postal_code, country, vat_id, email, purchase_order
from billing_details where holder_id = any($1::uuid[])
"""
# The row is locked from here to the end of the work: whoever fails gives the numbers back.
_NUMBERS = """
insert into invoice_number as known (series, year, last) values ($1, $2, $3)
on conflict (series, year) do update set last = known.last + excluded.last
returning last
"""
_ADD = """
insert into invoice
    (id, number, holder_id, is_organisation, month, subtotal_microusd, net_cents, tax_lines,
     total_cents, carried_microusd, billed_to, issued_at, due_at)
select id, number, holder_id, is_organisation, month, subtotal, net, tax -> 'lines', total,
       carried, billed_to, issued_at, due_at
from unnest(
    $1::uuid[], $2::text[], $3::uuid[], $4::boolean[], $5::date[], $6::numeric[], $7::numeric[],
    $8::jsonb[], $9::numeric[], $10::bigint[], $11::jsonb[], $12::timestamptz[],
    $13::timestamptz[])
    as given (id, number, holder_id, is_organisation, month, subtotal, net, tax, total, carried,
              billed_to, issued_at, due_at)
"""
_ADD_LINES = """
insert into invoice_line
    (id, invoice_id, position, kind, facts, quantity, unit, vendor_cost_microusd, amount_microusd,
     items, ids_digest)
select * from unnest(
    $1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::jsonb[], $6::numeric[], $7::text[],
    $8::numeric[], $9::numeric[], $10::bigint[], $11::text[])
"""
_GET = "select * from invoice where id = $1"
_HOLD = "select * from invoice where id = $1 for update"
_OF_MONTH = "select * from invoice where holder_id = $1 and month = $2"
_LINES = """
select l.*, f.family_id from invoice_line l left join invoice_line_family f on f.line_id = l.id
where l.invoice_id = $1 order by l.position
"""

# What came in counts for the oldest invoices first, and so does what invoices come to less than
# nothing, as such or by their credit notes. Money that changed nothing (`unused`) has come too.
_DUE = """
o.total_cents - coalesce((
    select sum(n.total_cents) from credit_note n where n.invoice_id = o.id), 0)
"""
_STANDING = f"""
coalesce((select sum(n.total_cents) from credit_note n where n.invoice_id = i.id), 0) as credited,
(select coalesce(sum(p.amount_microusd), 0) from payment p
 where p.holder_id = i.holder_id and p.state in ('paid', 'unused')) as paid_microusd,
(select coalesce(sum(greatest(-({_DUE}), 0)), 0) from invoice o
 where o.holder_id = i.holder_id) as in_favour,
(select coalesce(sum(greatest({_DUE}, 0)), 0) from invoice o
 where o.holder_id = i.holder_id and o.month < i.month) as before
"""  # noqa: S608 - made of the expression above

_STANDING_OF = f"select i.total_cents, {_STANDING} from invoice i where i.id = $1"  # noqa: S608
# Only with the conditions that there are, so that each has its index.
_HEADS = f"select i.*, {_STANDING} from invoice i"  # noqa: S608 - made of the names above

_ITEMS = """
select source_id, aspect from invoice_item where line_id = $1 and source_id > $2
order by source_id limit $3
"""
_ENTRIES = "select * from ledger_entry where event_id = any($1::uuid[])"
_CHARGES = "select * from charge where id = any($1::uuid[])"
_CORRECTIONS = "select * from ledger_correction where id = any($1::uuid[])"
_INVOICED_AS = """
select t.aspect, i.id as invoice_id, i.number, l.id as line_id, l.position, l.kind
from invoice_item t join invoice_line l on l.id = t.line_id join invoice i on i.id = l.invoice_id
where t.source_id = any($1::uuid[]) order by i.month, l.position
"""
_FIRST = UUID(int=0)
_MICRODOLLARS_A_CENT = 10_000


class SqlInvoices:
    """Invoices on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def cover(
        self, scope: Scope, dues: Sequence[Due], *, keep: bool, aged_after: timedelta | None
    ) -> Covered:
        return await cover(self._connection, scope, dues, keep=keep, aged_after=aged_after)

    async def late(
        self, scope: Scope, holder: UserId, *, aged_after: timedelta | None
    ) -> Sequence[UUID]:
        window = (scope.previous_ends, scope.received_after, scope.received_until)
        rows = await self._connection.fetch(
            _LATE, holder, *window, aged_after, scope.by_itself, timeout=PATIENCE_SECONDS
        )
        return [row["event_id"] for row in rows]

    async def details(self, holders: Sequence[UserId]) -> Mapping[UserId, BillingDetails]:
        rows = await self._connection.fetch(_DETAILS, list(holders))
        found = {}
        for row in rows:
            facts = dict(row)
            holder = UserId(facts.pop("holder_id"))
            found[holder] = BillingDetails.of_facts(facts)
        return found

    async def first_number(self, series: str, year: int, *, count: int) -> int:
        row = await self._connection.fetchrow(_NUMBERS, series, year, count)
        assert row is not None
        return int(row["last"]) - count + 1

    async def add(self, invoices: Sequence[Invoice]) -> None:
        lines = [_line_to_row(invoice.id, line) for invoice in invoices for line in invoice.lines]
        if lines:
            await add_families(
                self._connection, [line for invoice in invoices for line in invoice.lines]
            )
            await self._insert(_ADD_LINES, lines)
        if invoices:
            await self._insert(_ADD, [_to_row(invoice) for invoice in invoices])

    async def _insert(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        await self._connection.execute(sql, *columns, timeout=PATIENCE_SECONDS)

    async def get(self, invoice_id: InvoiceId) -> Invoice | None:
        return await self._with_lines(await self._connection.fetchrow(_GET, invoice_id))

    async def hold(self, invoice_id: InvoiceId) -> Invoice | None:
        return await self._with_lines(await self._connection.fetchrow(_HOLD, invoice_id))

    async def of_month(self, holder: UserId, month: Month) -> Invoice | None:
        row = await self._connection.fetchrow(_OF_MONTH, holder, month.first_day)
        return await self._with_lines(row)

    async def _with_lines(self, row: Row | None) -> Invoice | None:
        if row is None:
            return None
        return _from_row(row, await self._connection.fetch(_LINES, row["id"]))

    async def standing(self, invoice_id: InvoiceId) -> Standing:
        row = await self._connection.fetchrow(_STANDING_OF, invoice_id)
        assert row is not None
        return _standing(row)

    async def heads(
        self,
        *,
        holder: UserId | None = None,
        month: Month | None = None,
        after: tuple[Month, InvoiceId] | None = None,
        most: int,
    ) -> Sequence[InvoiceHead]:
        conditions: list[tuple[str, list[Any]]] = []
        if holder is not None:
            conditions.append(("i.holder_id = ${}", [holder]))
        if month is not None:
            conditions.append(("i.month = ${}", [month.first_day]))
        if after is not None:
            conditions.append(("(i.month, i.id) < (${}, ${})", [after[0].first_day, after[1]]))
        values = [value for _, given in conditions for value in given]
        numbers = iter(range(1, len(values) + 1))
        wheres = [text.format(*(next(numbers) for _ in given)) for text, given in conditions]
        where = f" where {' and '.join(wheres)}" if wheres else ""
        sql = f"{_HEADS}{where} order by i.month desc, i.id desc limit ${len(values) + 1}"
        return [_head(row) for row in await self._connection.fetch(sql, *values, most)]

    async def records(
        self, line_id: LineId, *, after: UUID | None, most: int
    ) -> Sequence[CoveredRecord]:
        items = await self._connection.fetch(_ITEMS, line_id, after or _FIRST, most)
        ids = [row["source_id"] for row in items]
        entries = {r["event_id"]: r for r in await self._connection.fetch(_ENTRIES, ids)}
        charges = {r["id"]: r for r in await self._connection.fetch(_CHARGES, ids)}
        corrections = {r["id"]: r for r in await self._connection.fetch(_CORRECTIONS, ids)}
        return [
            CoveredRecord(
                row["source_id"],
                row["aspect"],
                entry_from_row(entries[row["source_id"]]) if row["source_id"] in entries else None,
                charge_from_row(charges[row["source_id"]]) if row["source_id"] in charges else None,
                correction_from_row(corrections[row["source_id"]])
                if row["source_id"] in corrections
                else None,
            )
            for row in items
        ]

    async def invoiced_as(self, ids: Sequence[UUID]) -> Sequence[InvoicedAs]:
        return [
            InvoicedAs(
                row["aspect"],
                InvoiceId(row["invoice_id"]),
                row["number"],
                LineId(row["line_id"]),
                row["position"],
                LineKind(row["kind"]),
            )
            for row in await self._connection.fetch(_INVOICED_AS, list(ids))
        ]

    async def proof(self, invoice: Invoice) -> Proof:
        return await proof(self._connection, invoice)


def _to_row(invoice: Invoice) -> tuple[object, ...]:
    return (
        invoice.id,
        invoice.number,
        invoice.holder,
        invoice.is_organisation,
        invoice.month.first_day,
        invoice.subtotal_microusd,
        invoice.net_cents,
        # A list in a column of values would be taken for another dimension of it.
        {"lines": [tax.facts() for tax in invoice.tax_lines]},
        invoice.total_cents,
        invoice.rounding_carried_microusd,
        invoice.billed_to.facts() if invoice.billed_to else None,
        invoice.issued_at,
        invoice.due_at,
    )


def _line_to_row(invoice_id: InvoiceId, line: InvoiceLine) -> tuple[object, ...]:
    return (
        line.id,
        invoice_id,
        line.position,
        line.kind.value,
        dict(line.facts),
        line.quantity,
        line.unit,
        line.vendor_cost_microusd,
        line.amount_microusd,
        line.source.count,
        line.source.digest,
    )


def _from_row(row: Row, lines: Sequence[Row]) -> Invoice:
    return Invoice(
        id=InvoiceId(row["id"]),
        number=row["number"],
        holder=UserId(row["holder_id"]),
        is_organisation=row["is_organisation"],
        month=Month(row["month"]),
        status=Status.FINAL,
        lines=tuple(line_from_row(line) for line in lines),
        tax_lines=tax_lines(row["tax_lines"]),
        billed_to=billed_to(row["billed_to"]),
        issued_at=row["issued_at"],
        due_at=row["due_at"],
    )


def line_from_row(row: Row) -> InvoiceLine:
    """A line out of its row."""
    cost = row["vendor_cost_microusd"]
    return InvoiceLine(
        id=LineId(row["id"]),
        position=row["position"],
        kind=LineKind(row["kind"]),
        facts=row["facts"],
        quantity=int(row["quantity"]),
        unit=row["unit"],
        vendor_cost_microusd=None if cost is None else int(cost),
        amount_microusd=int(row["amount_microusd"]),
        source=Source(row["items"], row["ids_digest"]),
        family=FamilyId(row["family_id"]) if row["family_id"] else None,
    )


def tax_lines(facts: Sequence[Mapping[str, Any]]) -> tuple[TaxLine, ...]:
    """As they are kept with a document."""
    return tuple(TaxLine(**line) for line in facts)


def billed_to(facts: Mapping[str, Any] | None) -> BillingDetails | None:
    """As they are kept with a document."""
    return BillingDetails.of_facts(facts) if facts else None


def _head(row: Row) -> InvoiceHead:
    return InvoiceHead(
        id=InvoiceId(row["id"]),
        number=row["number"],
        holder=UserId(row["holder_id"]),
        is_organisation=row["is_organisation"],
        month=Month(row["month"]),
        net_cents=int(row["net_cents"]),
        tax_cents=int(row["total_cents"]) - int(row["net_cents"]),
        total_cents=int(row["total_cents"]),
        carried_microusd=row["carried_microusd"],
        issued_at=row["issued_at"],
        due_at=row["due_at"],
        standing=_standing(row),
    )


def _standing(row: Row) -> Standing:
    credited = int(row["credited"])
    owed = max(int(row["total_cents"]) - credited, 0)
    came_in = int(row["paid_microusd"]) // _MICRODOLLARS_A_CENT + int(row["in_favour"])
    paid = min(max(came_in - int(row["before"]), 0), owed)
    return Standing(credited, paid, owed - paid)
