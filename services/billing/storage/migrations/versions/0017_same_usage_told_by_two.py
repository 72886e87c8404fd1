"""The same usage that two reporters tell is counted once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outside_content",
        sa.Column("content", postgresql.BYTEA(), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.PrimaryKeyConstraint("content", name=op.f("pk_outside_content")),
    )


def downgrade() -> None:
    op.drop_table("outside_content")
