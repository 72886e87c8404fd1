"""Which lines of invoices are about the same money, so that it is given back once."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

_ID = postgresql.UUID(as_uuid=True)
# Charges of a period go together by when it ends, corrections with the line of what they correct.
# One that corrects several lines, as runs made them until now, goes with one of them.
_FAMILY = """case l.kind
    when 'correction' then coalesce((
        select min(u.line_id::text)::uuid from invoice_item t
        join ledger_correction c on c.id = t.source_id
        join lateral (
            select line_id from invoice_item
            where source_id = c.event_id and aspect in ('usage', 'priced')
            order by aspect limit 1) u on true
        where t.line_id = l.id), l.id)
    else coalesce((
        select md5(c.holder_id::text || '/' || floor(extract(epoch from c.ends))::bigint)::uuid
        from charge c where c.id = l.id), l.id)
    end"""
_WITHOUT = """
    l.kind in ('fee', 'proration', 'write_off', 'correction')
    and not exists (select 1 from invoice_line_family f where f.line_id = l.id)
"""
# A page of all lines, in their order: looked for by what they lack, the first would be looked at
# with each page again. Answers the last one.
_PAGE = f"""
with page as materialized (
    select id, kind from invoice_line where id > cast(:after as uuid) order by id limit 5000
), filled as (
    insert into invoice_line_family (line_id, family_id)
    select l.id, {_FAMILY}
    from page l
    where {_WITHOUT}
    on conflict do nothing
)
select id from page order by id desc limit 1
"""  # noqa: S608 - made of the expressions above
_FIRST = "00000000-0000-0000-0000-000000000000"
_PAUSE_SECONDS = 0.05
# The release before, which goes on meanwhile, puts lines on invoices without a word of families.
_MEANWHILE = f"""
create or replace function put_into_families() returns trigger language plpgsql as $$
begin
    insert into invoice_line_family (line_id, family_id)
    select l.id, {_FAMILY}
    from added l
    where {_WITHOUT};
    return null;
end $$;
create or replace trigger put_into_families after insert on invoice_line
    referencing new table as added
    for each statement execute function put_into_families();
"""  # noqa: S608 - made of the expressions above
# A document is written from the inside, as everything of it.
_GUARDS = """
create function keep_families_whole() returns trigger language plpgsql as $$
begin
    if exists (
        select 1 from added
        join invoice_line l on l.id = added.line_id join invoice i on i.id = l.invoice_id
    ) then
        raise exception 'invoices are final: nothing is added to %', tg_table_name
            using errcode = 'restrict_violation';
    end if;
    return null;
end $$;
create trigger keep_invoice_line_families before update or delete or truncate on invoice_line_family
    for each statement execute function keep_invoices();
create trigger keep_families_whole after insert on invoice_line_family
    referencing new table as added
    for each statement execute function keep_families_whole();
"""


def upgrade() -> None:
    op.create_table(
        "invoice_line_family",
        sa.Column("line_id", _ID, nullable=False),
        sa.Column("family_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("line_id", name=op.f("pk_invoice_line_family")),
        if_not_exists=True,
    )
    op.create_index(
        "ix_invoice_line_family_family_id",
        "invoice_line_family",
        ["family_id"],
        if_not_exists=True,
    )
    op.execute(_MEANWHILE)
    _fill()
    op.execute(_GUARDS)


def _fill() -> None:
    """Each page is a transaction. Lines that come meanwhile, wherever in the order, are put into
    their families as they come."""
    with op.get_context().autocommit_block():
        if op.get_context().as_sql:
            op.execute(sa.text(_PAGE).bindparams(after=_FIRST))
            return
        connection = op.get_bind()
        after: object = _FIRST
        while after := connection.execute(sa.text(_PAGE), {"after": str(after)}).scalar():
            time.sleep(_PAUSE_SECONDS)


def downgrade() -> None:
    op.execute("drop trigger put_into_families on invoice_line")
    op.execute("drop function put_into_families()")
    op.drop_table("invoice_line_family")
    op.execute("drop function keep_families_whole()")
