"""Users who are to be forgotten, and an index that finds their turns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "forgotten_user",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("erasure_id", sa.UUID(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_forgotten_user")),
    )
    op.create_index("ix_generation_user_id_id", "generation", ["user_id", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_generation_user_id_id", table_name="generation")
    op.drop_table("forgotten_user")
