"""Usage that came long after it was used waits until two people have said that it is billed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_ID = postgresql.UUID(as_uuid=True)
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "aged_usage",
        sa.Column("event_id", _ID, nullable=False),
        sa.Column("held_at", _MOMENT, nullable=False),
        sa.Column("approved_by", _ID, nullable=True),
        sa.Column("approved_at", _MOMENT, nullable=True),
        sa.Column("approval_reason", sa.Text(), nullable=True),
        sa.Column("released_by", _ID, nullable=True),
        sa.Column("released_at", _MOMENT, nullable=True),
        sa.Column("release_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("event_id", name="pk_aged_usage"),
    )
    op.create_index(
        "ix_aged_usage_waiting",
        "aged_usage",
        ["event_id"],
        postgresql_where=sa.text("released_at is null"),
    )


def downgrade() -> None:
    op.drop_table("aged_usage")
