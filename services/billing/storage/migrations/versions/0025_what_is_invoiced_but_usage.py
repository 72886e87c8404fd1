"""What is not invoiced yet of charges and corrections is found without the items of all usage."""

from __future__ import annotations

from alembic import op

from shared.db.migrations import create_index_concurrently

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_concurrently(
        "ix_invoice_item_but_usage",
        "invoice_item",
        "source_id, aspect",
        where="aspect <> 'usage'",
    )


def downgrade() -> None:
    op.drop_index("ix_invoice_item_but_usage", table_name="invoice_item")
