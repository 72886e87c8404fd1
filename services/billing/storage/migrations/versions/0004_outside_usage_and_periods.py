"""Usage from outside, manifests by the hour, closed months, alerts of limits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)

# A closed month stays closed, whoever asks.
_SEAL = """
create function keep_periods_closed() returns trigger language plpgsql as $$
begin
    raise exception 'a closed period is never opened again: no % of %', lower(tg_op), old.month
        using errcode = 'restrict_violation';
end $$;

create trigger keep_periods_closed before update or delete on period
    for each row execute function keep_periods_closed();
"""


def upgrade() -> None:
    op.add_column(
        "ledger_entry",
        sa.Column("units", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column("ledger_entry", sa.Column("unit", sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("ck_ledger_entry_units_are_not_negative"), "ledger_entry", "units >= 0"
    )
    # When the row was written, not when its transaction began: a month that is being closed has
    # to tell what came after.
    op.alter_column("ledger_entry", "received_at", server_default=sa.text("clock_timestamp()"))
    op.create_index(
        "ix_ledger_entry_occurred_at",
        "ledger_entry",
        ["occurred_at"],
        unique=False,
        postgresql_using="brin",
    )
    op.add_column("price_override", sa.Column("unit_microusd", sa.BigInteger(), nullable=True))
    op.create_table(
        "outside_event",
        sa.Column("reporter_id", sa.UUID(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("digest", postgresql.BYTEA(), nullable=False),
        sa.Column("reported_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint(
            "reporter_id", "source", "external_id", name=op.f("pk_outside_event")
        ),
    )
    op.create_table(
        "held_usage",
        sa.Column("reporter_id", sa.UUID(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("occurred_at", _MOMENT, nullable=False),
        sa.Column("held_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.Column("settled_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("reporter_id", "source", "external_id", name=op.f("pk_held_usage")),
    )
    op.create_table(
        "usage_manifest",
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("epoch", sa.UUID(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("hour", _MOMENT, nullable=False),
        sa.Column("announced", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("announced_at", _MOMENT, nullable=False),
        sa.Column("recorded", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("compared_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint(
            "producer", "epoch", "stream", "hour", name=op.f("pk_usage_manifest")
        ),
    )
    op.create_index(
        "ix_usage_manifest_unmatched",
        "usage_manifest",
        ["compared_at"],
        unique=False,
        postgresql_where=sa.text("recorded is distinct from announced"),
    )
    op.create_table(
        "period",
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("closed_at", _MOMENT, nullable=False),
        sa.Column("closed_by", sa.UUID(), nullable=False),
        sa.Column("waived", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("totals", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("month", name=op.f("pk_period")),
        sa.CheckConstraint(
            "waived = '[]'::jsonb or reason is not null", name=op.f("ck_period_waived_with_reason")
        ),
    )
    op.create_table(
        "rerating",
        sa.Column("price_id", sa.UUID(), nullable=False),
        sa.Column("asked_by", sa.UUID(), nullable=False),
        sa.Column("asked_at", _MOMENT, nullable=False),
        sa.Column(
            "after_event_id",
            sa.UUID(),
            server_default=sa.text("'00000000-0000-0000-0000-000000000000'"),
            nullable=False,
        ),
        sa.Column("corrected", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("done_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("price_id", name=op.f("pk_rerating")),
    )
    op.create_table(
        "limit_alert",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("window_name", sa.Text(), nullable=False),
        sa.Column("starts_at", _MOMENT, nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("told_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint(
            "user_id", "window_name", "starts_at", "percent", name=op.f("pk_limit_alert")
        ),
    )
    op.execute(_SEAL)


def downgrade() -> None:
    op.execute("drop trigger keep_periods_closed on period; drop function keep_periods_closed()")
    for table in (
        "limit_alert",
        "rerating",
        "period",
        "usage_manifest",
        "held_usage",
        "outside_event",
    ):
        op.drop_table(table)
    op.drop_column("price_override", "unit_microusd")
    op.drop_index("ix_ledger_entry_occurred_at", "ledger_entry")
    op.alter_column("ledger_entry", "received_at", server_default=sa.text("now()"))
    op.drop_constraint("ck_ledger_entry_units_are_not_negative", "ledger_entry")
    op.drop_column("ledger_entry", "unit")
    op.drop_column("ledger_entry", "units")
