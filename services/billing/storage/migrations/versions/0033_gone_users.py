"""Users who were forgotten, so that nothing is kept of what services outside say of them later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gone_user",
        sa.Column("user_id", postgresql.UUID(as_uuid=True), nullable=False),
        sa.Column(
            "noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_gone_user")),
    )
    # Those of the last hour. Whom the release before forgets meanwhile the next look notes, which
    # comes within an hour of it or not at all.
    op.execute("insert into gone_user (user_id) select user_id from forgotten_user")


def downgrade() -> None:
    op.drop_table("gone_user")
