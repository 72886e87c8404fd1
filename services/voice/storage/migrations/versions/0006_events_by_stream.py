"""What waits is found in the order in which it is sent, and what was sent by stream and age."""

from __future__ import annotations

from alembic import op

from shared.db.migrations import create_index_concurrently, outside_transaction

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_concurrently("ix_outbox_order", "outbox", "stream, sequence, created_at")
    create_index_concurrently("ix_outbox_sent_stream_sent_at", "outbox_sent", "stream, sent_at")
    # The new one begins like it, so that the release before finds its events as fast as with it.
    with outside_transaction():
        op.execute("drop index concurrently if exists ix_outbox_stream_created_at")


def downgrade() -> None:
    op.create_index("ix_outbox_stream_created_at", "outbox", ["stream", "created_at"])
    op.drop_index("ix_outbox_sent_stream_sent_at", table_name="outbox_sent")
    op.drop_index("ix_outbox_order", table_name="outbox")
