"""Keys, data keys, the trail and the canaries, beside the tables of events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("owner_type", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.UUID(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("key_id", sa.UUID(), nullable=False),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("grant_id", sa.UUID(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind in ('stored', 'used', 'validated', 'deleted', 'not_opened')",
            name=op.f("ck_audit_entry_kind"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entry")),
        sa.UniqueConstraint("grant_id", name=op.f("uq_audit_entry_grant_id")),
    )
    op.create_index(
        "ix_audit_entry_owner_id_owner_type_id",
        "audit_entry",
        ["owner_id", "owner_type", "id"],
        unique=False,
    )
    op.create_table(
        "data_key",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("owner_type", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.UUID(), nullable=False),
        sa.Column("kek_version", sa.Integer(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_key")),
        sa.UniqueConstraint("owner_id", "owner_type", name=op.f("uq_data_key_owner_id_owner_type")),
    )
    op.create_table(
        "dead_event",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "stored_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("replayed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_event")),
    )
    op.create_table(
        "inbox",
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column(
            "handled_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_inbox")),
    )
    op.create_index("ix_inbox_handled_at", "inbox", ["handled_at"], unique=False)
    op.create_table(
        "keyring_canary",
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("proof", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "purpose in ('wrapping', 'fingerprint')", name=op.f("ck_keyring_canary_purpose")
        ),
        sa.PrimaryKeyConstraint("purpose", "version", name=op.f("pk_keyring_canary")),
    )
    op.create_table(
        "outbox",
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("envelope", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_outbox")),
    )
    op.create_index("ix_outbox_stream_created_at", "outbox", ["stream", "created_at"], unique=False)
    op.create_table(
        "outbox_sent",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("envelope", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "sent_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("stream", "sequence", name=op.f("pk_outbox_sent")),
    )
    op.create_index("ix_outbox_sent_sent_at", "outbox_sent", ["sent_at"], unique=False)
    op.create_table(
        "outbox_stream",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("epoch", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("stream", name=op.f("pk_outbox_stream")),
    )
    op.create_table(
        "provider_key",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("owner_type", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.UUID(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("data_key_id", sa.UUID(), nullable=True),
        sa.Column("envelope", sa.LargeBinary(), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.Column("fingerprint_version", sa.Integer(), nullable=True),
        sa.Column(
            "capabilities",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column(
            "models", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("last_validated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("next_check_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_checks", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "num_nulls(data_key_id, envelope, fingerprint, fingerprint_version)"
            " = case status when 'revoked' then 4 else 0 end",
            name=op.f("ck_provider_key_secret"),
        ),
        sa.CheckConstraint(
            "status in ('pending', 'valid', 'limited', 'invalid', 'unreachable', 'revoked')",
            name=op.f("ck_provider_key_status"),
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_provider_key_version")),
        sa.ForeignKeyConstraint(
            ["data_key_id"], ["data_key.id"], name=op.f("fk_provider_key_data_key_id_data_key")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_key")),
        sa.UniqueConstraint(
            "owner_id",
            "owner_type",
            "provider",
            name=op.f("uq_provider_key_owner_id_owner_type_provider"),
        ),
    )
    op.create_index("ix_provider_key_data_key_id", "provider_key", ["data_key_id"], unique=False)
    op.create_index(
        "ix_provider_key_next_check_at",
        "provider_key",
        ["next_check_at"],
        unique=False,
        postgresql_where=sa.text("next_check_at is not null"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_provider_key_next_check_at",
        table_name="provider_key",
        postgresql_where=sa.text("next_check_at is not null"),
    )
    op.drop_index("ix_provider_key_data_key_id", table_name="provider_key")
    op.drop_table("provider_key")
    op.drop_table("outbox_stream")
    op.drop_index("ix_outbox_sent_sent_at", table_name="outbox_sent")
    op.drop_table("outbox_sent")
    op.drop_index("ix_outbox_stream_created_at", table_name="outbox")
    op.drop_table("outbox")
    op.drop_table("keyring_canary")
    op.drop_index("ix_inbox_handled_at", table_name="inbox")
    op.drop_table("inbox")
    op.drop_table("dead_event")
    op.drop_table("data_key")
    op.drop_index("ix_audit_entry_owner_id_owner_type_id", table_name="audit_entry")
    op.drop_table("audit_entry")
