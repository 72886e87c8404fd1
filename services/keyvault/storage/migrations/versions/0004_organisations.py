"""Organisations' keys: who sits where, which organisations are gone, who used what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "seat",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("is_taken", sa.Boolean(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "organisation_id", name=op.f("pk_seat")),
    )
    op.create_index("ix_seat_at", "seat", ["at"], unique=False)
    op.create_table(
        "ended_organisation",
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("organisation_id", name=op.f("pk_ended_organisation")),
    )
    op.create_index(
        "ix_audit_entry_member",
        "audit_entry",
        ["user_id", "id"],
        unique=False,
        postgresql_where=sa.text("owner_type = 'organisation' and user_id is not null"),
    )


def downgrade() -> None:
    op.drop_index("ix_audit_entry_member", table_name="audit_entry")
    op.drop_table("ended_organisation")
    op.drop_table("seat")
