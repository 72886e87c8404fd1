"""Voice's tables, for migrations; the statements stand beside the nouns they serve."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

from shared.db.forgotten import add_forgotten_user
from shared.db.tables import new_metadata

metadata = new_metadata()
add_forgotten_user(metadata)

_ID = UUID(as_uuid=True)
_TIME = DateTime(timezone=True)

# The hold on a paid call, and its one terminal record. What was said is not kept: neither text nor
# audio.
speech = Table(
    "speech",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("usage_event_id", _ID, nullable=False, unique=True),
    Column("request_id", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("voice_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("characters", Integer, nullable=False),
    Column("sandbox", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("outcome", Text),
    Column("asked_characters", Integer),  # null: all of them at once
    Column("charged_characters", Integer),
    Column("source", Text),
    Column("provider_request_id", Text),
    Column("idempotency_key", Text),
    Column("request_hash", LargeBinary),
    Column("created_at", _TIME, nullable=False),
    Column("lease_expires_at", _TIME, nullable=False),
    Column("settled_at", _TIME),
    CheckConstraint("characters > 0", name="characters"),
    CheckConstraint("state in ('running', 'settled')", name="state"),
    CheckConstraint("(state = 'settled') = (outcome is not null)", name="outcome"),
    CheckConstraint("(charged_characters is null) = (source is null)", name="charge"),
    CheckConstraint("(idempotency_key is null) = (request_hash is null)", name="idempotency"),
    Index("ix_speech_user_id_created_at", "user_id", "created_at"),
    Index(
        "uq_speech_user_id_idempotency_key",
        "user_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key is not null"),
    ),
    Index(
        "ix_speech_lease_expires_at",
        "lease_expires_at",
        postgresql_where=text("state = 'running'"),
    ),
)
