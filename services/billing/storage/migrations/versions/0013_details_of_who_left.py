"""Whom the last invoice of who has left is made out to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "billing_details", sa.Column("left_at", sa.DateTime(timezone=True), nullable=True)
    )


def downgrade() -> None:
    # An older version takes every row for that of somebody who is there.
    op.execute("delete from billing_details where left_at is not null")
    op.drop_column("billing_details", "left_at")
