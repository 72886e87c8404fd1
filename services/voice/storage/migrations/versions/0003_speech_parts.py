"""How much of a speech its vendor was asked to say so far: a long one is asked part by part."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("speech", sa.Column("asked_characters", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("speech", "asked_characters")
