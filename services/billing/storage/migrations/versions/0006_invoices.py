"""Invoices, credit notes and what they cover."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_SUM = sa.Numeric(38, 0)
_JSON = postgresql.JSONB(astext_type=sa.Text())

# A document is written from the inside: what its lines cover, its lines, itself. From then on
# nothing of it changes and nothing is added.
_GUARDS = """
create function keep_invoices() returns trigger language plpgsql as $$
begin
    raise exception 'invoices are final: no % of %', lower(tg_op), tg_table_name
        using errcode = 'restrict_violation';
end $$;
create trigger keep_invoices before update or delete or truncate on invoice
    for each statement execute function keep_invoices();
create trigger keep_invoice_lines before update or delete or truncate on invoice_line
    for each statement execute function keep_invoices();
create trigger keep_invoice_items before update or delete or truncate on invoice_item
    for each statement execute function keep_invoices();
create trigger keep_credit_notes before update or delete or truncate on credit_note
    for each statement execute function keep_invoices();
create trigger keep_credit_note_lines before update or delete or truncate on credit_note_line
    for each statement execute function keep_invoices();

create function keep_invoices_whole() returns trigger language plpgsql as $$
declare
    is_late boolean;
begin
    case tg_table_name
        when 'invoice_item' then
            select exists (select 1 from added join invoice_line l on l.id = added.line_id)
            into is_late;
        when 'invoice_line' then
            select exists (select 1 from added join invoice i on i.id = added.invoice_id)
            into is_late;
    end case;
    if is_late then
        raise exception 'invoices are final: nothing is added to %', tg_table_name
            using errcode = 'restrict_violation';
    end if;
    return null;
end $$;
create trigger keep_lines_whole after insert on invoice_item
    referencing new table as added
    for each statement execute function keep_invoices_whole();
create trigger keep_invoices_whole after insert on invoice_line
    referencing new table as added
    for each statement execute function keep_invoices_whole();

create function keep_credits_within_lines() returns trigger language plpgsql as $$
begin
    if exists (select 1 from added join credit_note n on n.id = added.credit_note_id) then
        raise exception 'credit notes are final: nothing is added'
            using errcode = 'restrict_violation';
    end if;
    -- Whoever credits the same lines at the same time comes after us, and then sees what we did.
    perform 1 from invoice_line where id in (select line_id from added) order by id for update;
    if exists (
        select 1 from invoice_line l
        join credit_note_line c on c.line_id = l.id
        where l.id in (select line_id from added)
        group by l.id, l.amount_microusd
        having abs(sum(c.amount_microusd)) > abs(l.amount_microusd)
            or sum(c.amount_microusd) * sign(l.amount_microusd) < 0
    ) then
        raise exception 'no more is credited than a line has'
            using errcode = 'check_violation';
    end if;
    return null;
end $$;
create trigger keep_credits_within_lines after insert on credit_note_line
    referencing new table as added
    for each statement execute function keep_credits_within_lines();
"""


def upgrade() -> None:
    _create_runs()
    _create_documents()
    _create_lines()
    op.create_table(
        "invoice_number",
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("series", "year", name=op.f("pk_invoice_number")),
    )
    op.create_table(
        "usage_fee",
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("effective_from", _MOMENT, nullable=False),
        sa.Column("basis_points", sa.Integer(), nullable=False),
        sa.Column("set_by", sa.UUID(), nullable=False),
        sa.Column("set_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("tier", "effective_from", name=op.f("pk_usage_fee")),
        sa.CheckConstraint(
            "basis_points between 0 and 10000", name=op.f("ck_usage_fee_at_most_the_whole")
        ),
    )
    op.execute(_GUARDS)
    # Late entries are found by when they came; rows lie in that order, so this index is tiny.
    op.create_index(
        "ix_ledger_entry_received_at", "ledger_entry", ["received_at"], postgresql_using="brin"
    )
    op.create_index("ix_ledger_correction_user_id", "ledger_correction", ["user_id"])


def _create_runs() -> None:
    op.create_table(
        "invoice_run",
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("previous_ends", _MOMENT, nullable=False),
        sa.Column("received_after", _MOMENT, nullable=False),
        sa.Column("received_until", _MOMENT, nullable=False),
        sa.Column("begun_at", _MOMENT, nullable=False),
        sa.Column("begun_by", sa.UUID(), nullable=True),
        sa.Column("holders", sa.BigInteger(), nullable=False),
        sa.Column("invoices", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("month", name=op.f("pk_invoice_run")),
    )
    op.create_table(
        "invoice_due",
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("holder_id", sa.UUID(), nullable=False),
        sa.Column("is_organisation", sa.Boolean(), nullable=False),
        sa.Column("late", postgresql.ARRAY(sa.UUID()), nullable=False),
        sa.PrimaryKeyConstraint("month", "holder_id", name=op.f("pk_invoice_due")),
    )


def _amounts() -> list[sa.Column[object]]:
    return [
        sa.Column("subtotal_microusd", _SUM, nullable=False),
        sa.Column("net_cents", _SUM, nullable=False),
        sa.Column("tax_lines", _JSON, nullable=False),
        sa.Column("total_cents", _SUM, nullable=False),
        sa.Column("carried_microusd", sa.BigInteger(), nullable=False),
        sa.Column("billed_to", _JSON, nullable=True),
        sa.Column("issued_at", _MOMENT, nullable=False),
    ]


def _create_documents() -> None:
    op.create_table(
        "invoice",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("holder_id", sa.UUID(), nullable=False),
        sa.Column("is_organisation", sa.Boolean(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        *_amounts(),
        sa.Column("due_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoice")),
        sa.UniqueConstraint("number", name=op.f("uq_invoice_number")),
        sa.UniqueConstraint("holder_id", "month", name=op.f("uq_invoice_holder_id_month")),
    )
    op.create_index("ix_invoice_month", "invoice", ["month", "id"])
    op.create_table(
        "credit_note",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.UUID(), nullable=False),
        sa.Column("holder_id", sa.UUID(), nullable=False),
        sa.Column("is_organisation", sa.Boolean(), nullable=False),
        *_amounts(),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("issued_by", sa.UUID(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_note")),
        sa.UniqueConstraint("number", name=op.f("uq_credit_note_number")),
        sa.UniqueConstraint(
            "invoice_id", "idempotency_key", name=op.f("uq_credit_note_invoice_id_idempotency_key")
        ),
    )
    op.create_index("ix_credit_note_holder_id", "credit_note", ["holder_id", "id"])


def _create_lines() -> None:
    op.create_table(
        "invoice_line",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("invoice_id", sa.UUID(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("facts", _JSON, nullable=False),
        sa.Column("quantity", _SUM, nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("vendor_cost_microusd", _SUM, nullable=True),
        sa.Column("amount_microusd", _SUM, nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("ids_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoice_line")),
        sa.UniqueConstraint(
            "invoice_id", "position", name=op.f("uq_invoice_line_invoice_id_position")
        ),
    )
    op.create_table(
        "invoice_item",
        sa.Column("source_id", sa.UUID(), nullable=False),
        sa.Column("aspect", sa.Text(), nullable=False),
        sa.Column("line_id", sa.UUID(), nullable=False),
        sa.Column("holder_id", sa.UUID(), nullable=False),
        sa.Column("unpriced", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "aspect", name=op.f("pk_invoice_item")),
        sa.CheckConstraint(
            "aspect in ('charge', 'usage', 'priced', 'correction', 'carry')",
            name=op.f("ck_invoice_item_known_aspect"),
        ),
    )
    op.create_index("ix_invoice_item_line_id", "invoice_item", ["line_id", "source_id"])
    op.create_index(
        "ix_invoice_item_unpriced",
        "invoice_item",
        ["holder_id"],
        postgresql_where=sa.text("unpriced"),
    )
    op.create_table(
        "credit_note_line",
        sa.Column("credit_note_id", sa.UUID(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("line_id", sa.UUID(), nullable=False),
        sa.Column("amount_microusd", _SUM, nullable=False),
        sa.PrimaryKeyConstraint("credit_note_id", "position", name=op.f("pk_credit_note_line")),
    )
    op.create_index("ix_credit_note_line_line_id", "credit_note_line", ["line_id"])


def downgrade() -> None:
    op.drop_index("ix_ledger_correction_user_id", table_name="ledger_correction")
    op.drop_index("ix_ledger_entry_received_at", table_name="ledger_entry")
    for table in (
        "credit_note_line",
        "invoice_item",
        "invoice_line",
        "credit_note",
        "invoice",
        "invoice_due",
        "invoice_run",
        "invoice_number",
        "usage_fee",
    ):
        op.drop_table(table)
    for function in ("keep_credits_within_lines", "keep_invoices_whole", "keep_invoices"):
        op.execute(f"drop function {function}()")
