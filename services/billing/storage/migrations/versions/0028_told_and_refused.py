"""Of which limit a threshold was told, since who has a larger tier hears of the larger one too; and
who refused what a service outside told, and why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("limit_alert", sa.Column("most", sa.BigInteger()))
    op.add_column("held_usage", sa.Column("refused_by", postgresql.UUID(as_uuid=True)))
    op.add_column("held_usage", sa.Column("refused_because", sa.Text()))


def downgrade() -> None:
    op.drop_column("held_usage", "refused_because")
    op.drop_column("held_usage", "refused_by")
    op.drop_column("limit_alert", "most")
