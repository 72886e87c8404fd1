"""Who was active when, and what all users used together, for the billing team's analytics."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
    "cost_microusd",
)


def upgrade() -> None:
    op.create_table(
        "analytics_cursor",
        sa.Column("chain", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain", name=op.f("pk_analytics_cursor")),
    )
    op.create_table(
        "user_activity",
        sa.Column("grain", sa.Text(), nullable=False),
        sa.Column("begins", sa.Date(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("last_at", _MOMENT, nullable=False),
        sa.CheckConstraint(
            "grain in ('day', 'week', 'month')", name=op.f("ck_user_activity_known_grain")
        ),
        sa.PrimaryKeyConstraint(
            "grain", "begins", "service", "user_id", name=op.f("pk_user_activity")
        ),
    )
    op.create_index(
        "ix_user_activity_counted", "user_activity", ["grain", "service", "begins", "tier"]
    )
    op.create_table(
        "user_first_seen",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_user_first_seen")),
    )
    op.create_table(
        "usage_total",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("unpriced_requests", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Numeric(38, 0), nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint(
            *("day", "tier", "service", "provider", "model", "operation"),
            name=op.f("pk_usage_total"),
        ),
    )
    op.create_table(
        "dashboard_pass",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("sign_in_id", sa.UUID(), nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.CheckConstraint("kind in ('link', 'visit')", name=op.f("ck_dashboard_pass_known_kind")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_dashboard_pass")),
        sa.Index("ix_dashboard_pass_expires_at", "expires_at"),
    )


def downgrade() -> None:
    for table in (
        "dashboard_pass",
        "usage_total",
        "user_first_seen",
        "user_activity",
        "analytics_cursor",
    ):
        op.drop_table(table)
