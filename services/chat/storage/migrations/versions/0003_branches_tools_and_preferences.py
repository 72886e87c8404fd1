"""Branches, tools, attachments, preferences, and turns without a session."""

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
        "preference",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("fallback", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("monthly_cap_microusd", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "monthly_cap_microusd >= 0", name=op.f("ck_preference_monthly_cap_microusd")
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_preference")),
    )
    op.create_table(
        "chat_attachment",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("message_id", sa.UUID(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["chat_message.id"],
            name=op.f("fk_chat_attachment_message_id_chat_message"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_attachment")),
    )
    op.create_index("ix_chat_attachment_message_id", "chat_attachment", ["message_id"])
    op.add_column("chat_message", sa.Column("finish_reason", sa.Text(), nullable=True))
    op.add_column("chat_message", sa.Column("parent_id", sa.UUID(), nullable=True))
    op.add_column(
        "chat_message",
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
    )
    op.add_column(
        "chat_message",
        sa.Column("extras", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    )
    op.drop_constraint(op.f("ck_chat_message_role"), "chat_message", type_="check")
    op.create_check_constraint(
        op.f("ck_chat_message_role"),
        "chat_message",
        "role in ('user', 'assistant', 'system', 'tool')",
    )
    op.add_column(
        "generation",
        sa.Column("surface", sa.Text(), server_default=sa.text("'session'"), nullable=False),
    )
    op.add_column("generation", sa.Column("cost_microusd", sa.BigInteger(), nullable=True))
    op.add_column("generation", sa.Column("fallback_from", sa.Text(), nullable=True))
    op.add_column("generation", sa.Column("stored_answer", sa.LargeBinary(), nullable=True))
    op.add_column("generation", sa.Column("previous_tip_id", sa.UUID(), nullable=True))
    op.alter_column("generation", "session_id", nullable=True)
    op.alter_column("generation", "question_id", nullable=True)
    # Messages came one after the other so far; ids are made in time's order.
    op.execute("""
        update chat_message m set parent_id = before.id
        from (
            select id as of, lag(id) over (partition by session_id order by id) as id
            from chat_message
        ) before
        where m.id = before.of and before.id is not null
    """)
    # Of what may run at once in one session, what began last keeps it; the others are paid for
    # all the same.
    op.execute("""
        update generation g set session_id = null
        where state = 'running' and exists (
            select from generation newer
            where newer.session_id = g.session_id and newer.state = 'running' and newer.id > g.id
        )
    """)
    op.create_index(
        "uq_generation_session_id",
        "generation",
        ["session_id"],
        unique=True,
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "ix_generation_session_id_id",
        "generation",
        ["session_id", "id"],
        postgresql_where=sa.text("session_id is not null"),
    )
    op.create_index(
        "ix_generation_id_with_idempotency_key",
        "generation",
        ["id"],
        postgresql_where=sa.text("idempotency_key is not null"),
    )


def downgrade() -> None:
    op.drop_index("ix_generation_id_with_idempotency_key", table_name="generation")
    op.drop_index("uq_generation_session_id", table_name="generation")
    op.drop_index("ix_generation_session_id_id", table_name="generation")
    # What came without a session has no place in the older form.
    op.execute("delete from generation where session_id is null")
    op.alter_column("generation", "question_id", nullable=False)
    op.alter_column("generation", "session_id", nullable=False)
    # There were no branches: the active one is the conversation.
    op.execute("delete from chat_message where not active")
    added = ("previous_tip_id", "stored_answer", "fallback_from", "cost_microusd", "surface")
    for column in added:
        op.drop_column("generation", column)
    op.execute("delete from chat_message where role = 'tool'")
    op.drop_constraint(op.f("ck_chat_message_role"), "chat_message", type_="check")
    op.create_check_constraint(
        op.f("ck_chat_message_role"), "chat_message", "role in ('user', 'assistant', 'system')"
    )
    for column in ("extras", "active", "parent_id", "finish_reason"):
        op.drop_column("chat_message", column)
    op.drop_index("ix_chat_attachment_message_id", table_name="chat_attachment")
    op.drop_table("chat_attachment")
    op.drop_table("preference")
