"""An order knows what was held when it was made, whatever is told of its payment and when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("base_revision", "base_terms_revision"):
        op.add_column("payment", sa.Column(column, sa.BigInteger(), nullable=True))
    # Of what was decided before, the orders of before go by time.
    for column in ("terms_revision", "plan_revision"):
        op.add_column(
            "subscription",
            sa.Column(column, sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        )
    op.add_column(
        "subscription", sa.Column("planned_at", sa.DateTime(timezone=True), nullable=True)
    )


def downgrade() -> None:
    op.drop_column("subscription", "planned_at")
    op.drop_column("subscription", "plan_revision")
    op.drop_column("subscription", "terms_revision")
    op.drop_column("payment", "base_terms_revision")
    op.drop_column("payment", "base_revision")
