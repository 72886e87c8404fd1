"""What waits for its link has beside its ids what they are linked by, where the intake made it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_TABLES = ("ledger_unlinked", "ledger_unlinked_of_organisation")


def upgrade() -> None:
    for table in _TABLES:
        # The release before leaves it out, and is helped by the database.
        op.add_column(table, sa.Column("marks", sa.LargeBinary()))
        # Digests can't be made shorter.
        op.execute(f"alter table {table} alter column marks set storage external")


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "marks")
