"""Which lines of invoices are about the same money, and what of it was given back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from services.billing.domain.giving_back import GIVEN_BACK, Family, FamilyId
from services.billing.domain.invoice import InvoiceLine
from shared.db.database import Connection
from shared.ids import UserId

# Several of them only for a run, of which there is one at a time; in their order all the same.
_HOLD_BOOKS = """
select pg_advisory_xact_lock(4250, key) from (
    select distinct hashtext(holder::text) as key from unnest($1::uuid[]) as holder order by 1
) as ordered
"""
# Ids of invoices and credit notes sort in the order in which they were made.
_FAMILIES = f"""
with members as (
    select family_id, line_id from invoice_line_family where family_id = any($1::uuid[])
    union
    select id, id from invoice_line where id = any($1::uuid[])
), noted as (
    select m.family_id, m.line_id, sum(c.amount_microusd) as credited,
           max(c.credit_note_id::text collate "C") as last
    from members m join credit_note_line c on c.line_id = m.line_id group by 1, 2
), standing as (
    select m.family_id, l.invoice_id, l.amount_microusd as charged, n.credited,
           coalesce((l.facts ->> '{GIVEN_BACK}')::numeric, 0) as matched,
           max(n.last) over (partition by m.family_id) as last
    from members m join invoice_line l on l.id = m.line_id
    left join noted n on (n.family_id, n.line_id) = (m.family_id, m.line_id)
)
select family_id, sum(charged) as charged, coalesce(sum(credited), 0) as credited,
       sum(matched) as matched,
       coalesce(sum(charged - matched) filter (where invoice_id > last::uuid), 0) as since
from standing group by family_id
"""  # noqa: S608 - made of the constant
_ADD = """
insert into invoice_line_family (line_id, family_id) select * from unnest($1::uuid[], $2::uuid[])
"""
_PATIENCE_SECONDS = 600.0


async def hold_books(connection: Connection, holders: Sequence[UserId]) -> None:
    """Nobody else adds invoices or credit notes of theirs until the work ends."""
    await connection.execute(_HOLD_BOOKS, list(holders), timeout=_PATIENCE_SECONDS)


async def families(connection: Connection, ids: Sequence[FamilyId]) -> Mapping[FamilyId, Family]:
    """Those of which there is a line."""
    rows = await connection.fetch(_FAMILIES, list(ids), timeout=_PATIENCE_SECONDS)
    return {
        FamilyId(UUID(bytes=row["family_id"].bytes)): Family(
            int(row["charged"]), int(row["credited"]), int(row["matched"]), int(row["since"])
        )
        for row in rows
    }


async def add_families(connection: Connection, lines: Sequence[InvoiceLine]) -> None:
    """Of lines that are about to be added."""
    some = [line for line in lines if line.family is not None]
    if some:
        await connection.execute(
            _ADD,
            [line.id for line in some],
            [line.family for line in some],
            timeout=_PATIENCE_SECONDS,
        )
