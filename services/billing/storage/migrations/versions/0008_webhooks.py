"""Webhooks and spend alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_endpoint()
    _create_delivery()
    op.create_table(
        "webhook_usage_cursor",
        sa.Column("endpoint_id", sa.UUID(), nullable=False),
        sa.Column("chain", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id", "chain", name=op.f("pk_webhook_usage_cursor")),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoint.id"],
            name=op.f("fk_webhook_usage_cursor_endpoint_id_webhook_endpoint"),
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "spend_threshold",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("microusd", sa.BigInteger(), nullable=False),
        sa.Column("set_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "microusd", name=op.f("pk_spend_threshold")),
        sa.CheckConstraint("microusd > 0", name=op.f("ck_spend_threshold_more_than_nothing")),
    )
    op.create_table(
        "spend_alert",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("threshold_microusd", sa.BigInteger(), nullable=False),
        sa.Column("told_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint(
            "user_id", "month", "threshold_microusd", name=op.f("pk_spend_alert")
        ),
    )


def _create_endpoint() -> None:
    op.create_table(
        "webhook_endpoint",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("owner_kind", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.UUID(), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("types", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("old_secret", sa.LargeBinary(), nullable=True),
        sa.Column("old_secret_until", _MOMENT, nullable=True),
        sa.Column("created_by", sa.UUID(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("disabled_at", _MOMENT, nullable=True),
        sa.Column("disabled_because", sa.Text(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failing_since", _MOMENT, nullable=True),
        sa.Column("paused_until", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoint")),
        sa.CheckConstraint(
            "owner_kind in ('user', 'organisation', 'operator')",
            name=op.f("ck_webhook_endpoint_known_owner"),
        ),
        sa.CheckConstraint(
            "(owner_kind = 'operator') = (owner_id is null)",
            name=op.f("ck_webhook_endpoint_owner_has_id"),
        ),
        sa.CheckConstraint(
            "(disabled_at is null) = (disabled_because is null)",
            name=op.f("ck_webhook_endpoint_disabled_with_reason"),
        ),
    )
    op.create_index("ix_webhook_endpoint_owner_id", "webhook_endpoint", ["owner_id", "id"])


def _create_delivery() -> None:
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("endpoint_id", sa.UUID(), nullable=False),
        sa.Column("holder_id", sa.UUID(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("effect_key", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("chain", sa.Integer(), nullable=True),
        sa.Column("first_sequence", sa.BigInteger(), nullable=True),
        sa.Column("last_sequence", sa.BigInteger(), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_attempt_at", _MOMENT, nullable=False),
        sa.Column("lease_id", sa.UUID(), nullable=True),
        sa.Column("leased_until", _MOMENT, nullable=True),
        sa.Column("last_attempt_at", _MOMENT, nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_problem", sa.Text(), nullable=True),
        sa.Column("settled_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_delivery")),
        sa.UniqueConstraint(
            "endpoint_id", "effect_key", name=op.f("uq_webhook_delivery_endpoint_id_effect_key")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoint.id"],
            name=op.f("fk_webhook_delivery_endpoint_id_webhook_endpoint"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint(
            "state in ('waiting', 'delivered', 'dead')",
            name=op.f("ck_webhook_delivery_known_state"),
        ),
        sa.CheckConstraint(
            "(body is null) = (chain is not null)", name=op.f("ck_webhook_delivery_text_or_ledger")
        ),
    )
    waiting, dead = sa.text("state = 'waiting'"), sa.text("state = 'dead'")
    settled = sa.text("settled_at is not null")
    op.create_index(
        "ix_webhook_delivery_waiting",
        "webhook_delivery",
        ["endpoint_id", "next_attempt_at"],
        postgresql_where=waiting,
    )
    op.create_index(
        "ix_webhook_delivery_leased",
        "webhook_delivery",
        ["endpoint_id"],
        postgresql_where=sa.text("lease_id is not null"),
    )
    op.create_index(
        "ix_webhook_delivery_usage",
        "webhook_delivery",
        ["endpoint_id"],
        postgresql_where=sa.text("state = 'waiting' and chain is not null"),
    )
    op.create_index("ix_webhook_delivery_endpoint_id", "webhook_delivery", ["endpoint_id", "id"])
    op.create_index("ix_webhook_delivery_holder_id", "webhook_delivery", ["holder_id"])
    op.create_index(
        "ix_webhook_delivery_dead",
        "webhook_delivery",
        ["endpoint_id", "id"],
        postgresql_where=dead,
    )
    op.create_index(
        "ix_webhook_delivery_settled_at",
        "webhook_delivery",
        ["settled_at"],
        postgresql_where=settled,
    )


def downgrade() -> None:
    for table in (
        "spend_alert",
        "spend_threshold",
        "webhook_usage_cursor",
        "webhook_delivery",
        "webhook_endpoint",
    ):
        op.drop_table(table)
