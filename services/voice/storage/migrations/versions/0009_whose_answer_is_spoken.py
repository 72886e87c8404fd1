"""Speech that speaks an answer of chat knows of which session that is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("speech", sa.Column("session_id", sa.UUID(), nullable=True))


def downgrade() -> None:
    op.drop_column("speech", "session_id")
