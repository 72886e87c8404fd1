"""Chat's tables, for migrations; the statements stand beside the nouns they serve."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from shared.db.forgotten import add_forgotten_user
from shared.db.tables import new_metadata

metadata = new_metadata()
add_forgotten_user(metadata)

_ID = UUID(as_uuid=True)
_TIME = DateTime(timezone=True)

chat_session = Table(
    "chat_session",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("name", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("system_prompt", Text),
    Column("created_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Index("ix_chat_session_user_id_updated_at_id", "user_id", "updated_at", "id"),
)

chat_message = Table(
    "chat_message",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("session_id", _ID, ForeignKey("chat_session.id", ondelete="CASCADE"), nullable=False),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("provider", Text),
    Column("model", Text),
    Column("usage", JSONB),
    Column("cost_microusd", BigInteger),
    Column("price_version", Text),
    Column("processing_time_ms", Integer),
    Column("created_at", _TIME, nullable=False),
    Column("finish_reason", Text),
    # The message before it on its branch. Of all branches one is active: the one that is shown.
    Column("parent_id", _ID),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("extras", JSONB),
    CheckConstraint("role in ('user', 'assistant', 'system', 'tool')", name="role"),
    CheckConstraint("status in ('pending', 'done', 'interrupted')", name="status"),
    Index("ix_chat_message_session_id_id", "session_id", "id"),
)

# The bytes of what was sent along with a message, unless the vendor can fetch them itself.
chat_attachment = Table(
    "chat_attachment",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("message_id", _ID, ForeignKey("chat_message.id", ondelete="CASCADE"), nullable=False),
    Column("media_type", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index("ix_chat_attachment_message_id", "message_id"),
)

# What a user has chosen for all their turns.
preference = Table(
    "preference",
    metadata,
    Column("user_id", _ID, primary_key=True),
    Column("fallback", ARRAY(Text), nullable=False),
    Column("monthly_cap_microusd", BigInteger),
    Column("speak_voice_id", Text),
    Column("updated_at", _TIME, nullable=False),
    CheckConstraint("monthly_cap_microusd >= 0", name="monthly_cap_microusd"),
)

# The hold on a paid call, and its one terminal record. It outlives its session: what was used was
# used, whether or not the user keeps the conversation.
generation = Table(
    "generation",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("surface", Text, nullable=False, server_default=text("'session'")),
    Column("session_id", _ID),
    Column("question_id", _ID),
    Column("answer_id", _ID, nullable=False),
    Column("usage_event_id", _ID, nullable=False, unique=True),
    Column("request_id", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("sandbox", Boolean, nullable=False),
    Column("input_estimate", Integer, nullable=False),
    # While it runs letters by weight (`usage.letters_of`), for the estimate of a turn that is lost;
    # once it is settled the characters of its text.
    Column("output_characters", Integer, nullable=False, server_default=text("0")),
    Column("provider_request_id", Text),
    Column("state", Text, nullable=False),
    Column("outcome", Text),
    Column("idempotency_key", Text),
    Column("request_hash", LargeBinary),
    Column("created_at", _TIME, nullable=False),
    Column("lease_expires_at", _TIME, nullable=False),
    # When the lease was first seen to have run out; of no meaning once it is renewed.
    Column("doubted_at", _TIME),
    Column("settled_at", _TIME),
    Column("cost_microusd", BigInteger),
    Column("fallback_from", Text),
    # What a repeated request with the same idempotency key is answered, without a session.
    Column("stored_answer", LargeBinary),
    # The end of the branch that was active before, of a turn that left it: should nothing be
    # answered, that branch is active again.
    Column("previous_tip_id", _ID),
    CheckConstraint("state in ('running', 'settled')", name="state"),
    CheckConstraint("(state = 'settled') = (outcome is not null)", name="outcome"),
    Index(
        "uq_generation_user_id_idempotency_key",
        "user_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key is not null"),
    ),
    Index("ix_generation_user_id_id", "user_id", "id"),
    Index(
        "ix_generation_id_with_idempotency_key",
        "id",
        postgresql_where=text("idempotency_key is not null"),
    ),
    Index(
        "ix_generation_session_id_id",
        "session_id",
        "id",
        postgresql_where=text("session_id is not null"),
    ),
    # One turn of a session at a time.
    Index(
        "uq_generation_session_id",
        "session_id",
        unique=True,
        postgresql_where=text("state = 'running'"),
    ),
    Index(
        "ix_generation_lease_expires_at",
        "lease_expires_at",
        postgresql_where=text("state = 'running'"),
    ),
)

known_key = Table(
    "known_key",
    metadata,
    Column("user_id", _ID),
    Column("provider", Text),
    Column("key_version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("models", ARRAY(Text), nullable=False),
    PrimaryKeyConstraint("user_id", "provider"),
)
