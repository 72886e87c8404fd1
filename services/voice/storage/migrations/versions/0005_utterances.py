"""What users had said before, for saying it again without asking the vendor."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "speech",
        sa.Column("cached", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_table(
        "cached_utterance",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("audio", sa.LargeBinary(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("kept_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "address", name=op.f("pk_cached_utterance")),
    )
    op.create_index("ix_cached_utterance_kept_at", "cached_utterance", ["kept_at"])
    # Sealed bytes don't become smaller: to try costs time alone.
    op.execute("alter table cached_utterance alter column audio set storage external")


def downgrade() -> None:
    op.drop_table("cached_utterance")
    op.drop_column("speech", "cached")
