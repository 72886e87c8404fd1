"""Corrections that are asked for twice are made once; trials are found by who began them; what
reporters say beside usage is kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.db.migrations import create_index_concurrently

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_metadata",
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_usage_metadata")),
        if_not_exists=True,
    )
    op.create_index("ix_usage_metadata_user_id", "usage_metadata", ["user_id"], if_not_exists=True)
    op.add_column(
        "ledger_correction",
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        if_not_exists=True,
    )
    create_index_concurrently(
        "uq_ledger_correction_key",
        "ledger_correction",
        "event_id, idempotency_key",
        unique=True,
        where="idempotency_key is not null",
    )
    create_index_concurrently(
        "ix_subscription_change_trial",
        "subscription_change",
        "changed_by",
        where="state = 'trialing'",
    )
    create_index_concurrently(
        "ix_held_usage_metadata_of",
        "held_usage",
        "(body ->> 'subject')",
        where="body #> '{data,metadata}' is not null",
    )


def downgrade() -> None:
    op.drop_index("ix_held_usage_metadata_of", table_name="held_usage")
    op.drop_index("ix_subscription_change_trial", table_name="subscription_change")
    op.drop_index("uq_ledger_correction_key", table_name="ledger_correction")
    op.drop_column("ledger_correction", "idempotency_key")
    op.drop_table("usage_metadata")
