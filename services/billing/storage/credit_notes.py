"""Credit notes, and the operator's fees of usage."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.billing.domain.closing import Month
from services.billing.domain.crediting import CreditedSoFar
from services.billing.domain.invoice import (
    CreditLine,
    CreditNote,
    CreditNoteId,
    Invoice,
    InvoiceId,
    LineId,
)
from services.billing.domain.usage_fee import UsageFee
from services.billing.storage.invoices import billed_to, line_from_row, tax_lines
from services.billing.storage.line_families import families, hold_books
from shared.db.database import Connection, Row
from shared.ids import UserId

_NOTE = """
select n.*, i.number as invoice_number, i.month
from credit_note n join invoice i on i.id = n.invoice_id
"""
_BY_KEY = f"{_NOTE} where n.invoice_id = $1 and n.idempotency_key = $2"
_GET = f"{_NOTE} where n.id = $1"
_OF = f"""{_NOTE}
where ($1::uuid is null or n.holder_id = $1) and ($2::uuid is null or n.invoice_id = $2)
  and n.id < $3 order by n.id desc limit $4
"""
_LINES = """
select c.credit_note_id, c.position as credit_position, c.amount_microusd as credited, l.*,
       f.family_id
from credit_note_line c join invoice_line l on l.id = c.line_id
left join invoice_line_family f on f.line_id = l.id
where c.credit_note_id = any($1::uuid[]) order by c.credit_note_id, c.position
"""
_CREDITED = """
select c.line_id, sum(c.amount_microusd) as credited
from credit_note_line c join invoice_line l on l.id = c.line_id
where l.invoice_id = $1 group by c.line_id
"""
_ADD_LINES = """
insert into credit_note_line (credit_note_id, position, line_id, amount_microusd)
select $1, * from unnest($2::int[], $3::uuid[], $4::numeric[])
"""
_ADD = """
insert into credit_note
    (id, number, invoice_id, holder_id, is_organisation, subtotal_microusd, net_cents, tax_lines,
     total_cents, carried_microusd, billed_to, issued_at, reason, issued_by, idempotency_key,
     request_digest)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""
_FEES = "select * from usage_fee order by tier, effective_from"
_ADD_FEE = """
insert into usage_fee (tier, effective_from, basis_points, set_by, set_at)
values ($1, $2, $3, $4, $5) on conflict do nothing returning tier
"""
_LAST = UUID(int=(1 << 128) - 1)


class SqlCreditNotes:
    """Credit notes on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def by_key(self, invoice_id: InvoiceId, key: str) -> tuple[CreditNote, str] | None:
        row = await self._connection.fetchrow(_BY_KEY, invoice_id, key)
        if row is None:
            return None
        [note] = await self._with_lines([row])
        return note, row["request_digest"]

    async def credited(self, invoice: Invoice) -> CreditedSoFar:
        await hold_books(self._connection, [invoice.holder])
        rows = await self._connection.fetch(_CREDITED, invoice.id)
        return CreditedSoFar(
            {LineId(row["line_id"]): int(row["credited"]) for row in rows},
            await families(self._connection, [line.family_id for line in invoice.lines]),
        )

    async def add(self, note: CreditNote, *, key: str, digest: str) -> None:
        await self._connection.execute(
            _ADD_LINES,
            note.id,
            [line.position for line in note.lines],
            [line.line.id for line in note.lines],
            [line.amount_microusd for line in note.lines],
        )
        await self._connection.execute(
            _ADD,
            note.id,
            note.number,
            note.invoice_id,
            note.holder,
            note.is_organisation,
            note.subtotal_microusd,
            note.net_cents,
            [tax.facts() for tax in note.tax_lines],
            note.total_cents,
            note.rounding_carried_microusd,
            note.billed_to.facts() if note.billed_to else None,
            note.issued_at,
            note.reason,
            note.issued_by,
            key,
            digest,
        )

    async def get(self, note_id: CreditNoteId) -> CreditNote | None:
        row = await self._connection.fetchrow(_GET, note_id)
        return (await self._with_lines([row]))[0] if row else None

    async def of(
        self,
        holder: UserId | None,
        *,
        invoice_id: InvoiceId | None,
        after: CreditNoteId | None,
        most: int,
    ) -> Sequence[CreditNote]:
        rows = await self._connection.fetch(_OF, holder, invoice_id, after or _LAST, most)
        return await self._with_lines(rows)

    async def _with_lines(self, rows: Sequence[Row]) -> Sequence[CreditNote]:
        lines: dict[UUID, list[CreditLine]] = {row["id"]: [] for row in rows}
        for row in await self._connection.fetch(_LINES, list(lines)):
            lines[row["credit_note_id"]].append(
                CreditLine(row["credit_position"], line_from_row(row), int(row["credited"]))
            )
        return [_from_row(row, lines[row["id"]]) for row in rows]


def _from_row(row: Row, lines: Sequence[CreditLine]) -> CreditNote:
    return CreditNote(
        id=CreditNoteId(row["id"]),
        number=row["number"],
        invoice_id=InvoiceId(row["invoice_id"]),
        invoice_number=row["invoice_number"],
        holder=UserId(row["holder_id"]),
        is_organisation=row["is_organisation"],
        month=Month(row["month"]),
        lines=tuple(lines),
        net_cents=int(row["net_cents"]),
        tax_lines=tax_lines(row["tax_lines"]),
        billed_to=billed_to(row["billed_to"]),
        reason=row["reason"],
        issued_at=row["issued_at"],
        issued_by=UserId(row["issued_by"]),
    )


class SqlUsageFees:
    """Fees of usage on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def all(self) -> Sequence[UsageFee]:
        return [
            UsageFee(
                row["tier"],
                row["effective_from"],
                row["basis_points"],
                UserId(row["set_by"]),
                row["set_at"],
            )
            for row in await self._connection.fetch(_FEES)
        ]

    async def add(self, fee: UsageFee) -> bool:
        row = await self._connection.fetchrow(
            _ADD_FEE, fee.tier_name, fee.effective_from, fee.basis_points, fee.set_by, fee.set_at
        )
        return row is not None
