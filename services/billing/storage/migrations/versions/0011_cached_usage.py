"""Which usage was answered from what its user had before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # With a constant default: no row is rewritten, in no partition.
    op.add_column(
        "ledger_entry",
        sa.Column("cached", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("ledger_entry", "cached")
