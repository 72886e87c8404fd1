"""The ids of batches and links are kept as they are: making them a third shorter took PostgreSQL
longer than all else of adding a run of links."""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_TABLES = ("ledger_unlinked", "ledger_unlinked_of_organisation", "ledger_link")


def upgrade() -> None:
    # What is there stays as it is, and is read as ever.
    for table in _TABLES:
        op.execute(f"alter table {table} alter column ids set storage external")


def downgrade() -> None:
    for table in _TABLES:
        op.execute(f"alter table {table} alter column ids set storage extended")
