"""How users want their voices to speak, and the voices that they had made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "voice_settings",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("voice_id", sa.Text(), nullable=False),
        sa.Column("settings", JSONB(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "voice_id", name=op.f("pk_voice_settings")),
    )
    op.create_table(
        "cloned_voice",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("voice_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sample_sha256s", ARRAY(sa.Text()), nullable=False),
        sa.Column("consent_version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("requires_verification", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_hash", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removal_asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state in ('making', 'ready', 'removing')", name=op.f("ck_cloned_voice_state")
        ),
        sa.CheckConstraint(
            "(state = 'making') = (voice_id is null)", name=op.f("ck_cloned_voice_voice")
        ),
        sa.CheckConstraint(
            "(idempotency_key is null) = (request_hash is null)",
            name=op.f("ck_cloned_voice_idempotency"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cloned_voice")),
    )
    op.create_index("ix_cloned_voice_user_id_voice_id", "cloned_voice", ["user_id", "voice_id"])
    op.create_index(
        "uq_cloned_voice_user_id_idempotency_key",
        "cloned_voice",
        ["user_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key is not null"),
    )
    op.create_index(
        "ix_cloned_voice_created_at",
        "cloned_voice",
        ["created_at"],
        postgresql_where=sa.text("state = 'making'"),
    )


def downgrade() -> None:
    op.drop_table("cloned_voice")
    op.drop_table("voice_settings")
