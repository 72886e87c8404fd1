"""Whom a user wants to hear their answers from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("preference", sa.Column("speak_voice_id", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("preference", "speak_voice_id")
