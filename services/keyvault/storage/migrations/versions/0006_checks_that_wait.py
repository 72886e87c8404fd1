"""Since when a key waits for its check, and how often keys of an owner were stored and checked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.db.migrations import create_index_concurrently

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "provider_key",
        sa.Column("check_requested_at", sa.DateTime(timezone=True), nullable=True),
        if_not_exists=True,
    )
    create_index_concurrently(
        "ix_audit_entry_checks",
        "audit_entry",
        "owner_id, owner_type, kind, id",
        where="kind in ('stored', 'validated')",
    )


def downgrade() -> None:
    op.drop_index("ix_audit_entry_checks", table_name="audit_entry")
    op.drop_column("provider_key", "check_requested_at")
