"""Caps on the use of keys, stops of services, roots that are sealed elsewhere."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sealed_root",
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kek_version", sa.Integer(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("purpose", "version", name=op.f("pk_sealed_root")),
    )
    op.create_index("ix_data_key_kek_version_id", "data_key", ["kek_version", "id"], unique=False)
    op.add_column("audit_entry", sa.Column("user_id", sa.UUID(), nullable=True))
    op.add_column(
        "provider_key",
        sa.Column(
            "details",
            postgresql.JSONB(),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.create_table(
        "service_stop",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stopped_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resumed_by", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "num_nulls(resumed_at, resumed_by) in (0, 2)", name=op.f("ck_service_stop_resumed")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_stop")),
    )
    op.create_index(
        "uq_service_stop_in_force",
        "service_stop",
        ["service"],
        unique=True,
        postgresql_where=sa.text("resumed_at is null"),
    )
    op.create_table(
        "service_usage",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("process", sa.UUID(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("service", "process", name=op.f("pk_service_usage")),
    )
    op.create_table(
        "service_user",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("service", "user_id", name=op.f("pk_service_user")),
    )
    op.create_table(
        "keyring_replica",
        sa.Column("replica", sa.Text(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("versions", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("good_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("replica", name=op.f("pk_keyring_replica")),
    )
    op.create_table(
        "keyring_rewrap",
        sa.Column("kek_version", sa.Integer(), nullable=False),
        sa.Column("rewrapped", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kek_version", name=op.f("pk_keyring_rewrap")),
    )


def downgrade() -> None:
    op.drop_table("keyring_rewrap")
    op.drop_table("keyring_replica")
    op.drop_table("service_user")
    op.drop_table("service_usage")
    op.drop_table("service_stop")
    op.drop_column("provider_key", "details")
    op.drop_column("audit_entry", "user_id")
    op.drop_index("ix_data_key_kek_version_id", table_name="data_key")
    op.drop_table("sealed_root")
