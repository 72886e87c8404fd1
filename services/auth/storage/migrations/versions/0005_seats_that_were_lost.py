"""Who lost a seat, when, and since when they sat; seats from the next period on; acts by actor."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.db.migrations import create_index_concurrently

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "organisation", sa.Column("next_seats", sa.Integer(), nullable=True), if_not_exists=True
    )
    for name in ("seat_lost_at", "sat_since"):
        op.add_column(
            "membership",
            sa.Column(name, sa.DateTime(timezone=True), nullable=True),
            if_not_exists=True,
        )
    op.add_column(
        "invitation",
        sa.Column("accepted_by", postgresql.UUID(as_uuid=True), nullable=True),
        if_not_exists=True,
    )
    create_index_concurrently(
        "ix_audit_event_by_others",
        "audit_event",
        "actor_id, id",
        where="user_id is distinct from actor_id",
    )


def downgrade() -> None:
    op.drop_index("ix_audit_event_by_others", table_name="audit_event")
    op.drop_column("invitation", "accepted_by")
    op.drop_column("membership", "sat_since")
    op.drop_column("membership", "seat_lost_at")
    op.drop_column("organisation", "next_seats")
