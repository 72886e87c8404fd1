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
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from shared.db.forgotten import add_forgotten_user
from shared.db.tables import new_metadata

metadata = new_metadata()
add_forgotten_user(metadata)

_ID = UUID(as_uuid=True)
_TIME = DateTime(timezone=True)

# The hold on a paid call, and its one terminal record. What was said is not kept here: neither text
# nor audio.
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
    Column("cached", Boolean, nullable=False, server_default=text("false")),
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
    Column("doubted_at", _TIME),
    Column("settled_at", _TIME),
    Column("session_id", _ID),  # of chat, whose answer it speaks
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

# What a user had said before: audio that is sealed for its user and its place. The place is a keyed
# digest, so that nobody who reads this learns what was said.
cached_utterance = Table(
    "cached_utterance",
    metadata,
    Column("user_id", _ID, primary_key=True),
    Column("address", LargeBinary, primary_key=True),
    Column("audio", LargeBinary, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("kept_at", _TIME, nullable=False),
    Index("ix_cached_utterance_kept_at", "kept_at"),
)

# What a user has said once for all about a voice: only what differs from the defaults.
voice_settings = Table(
    "voice_settings",
    metadata,
    Column("user_id", _ID, primary_key=True),
    Column("voice_id", Text, primary_key=True),
    Column("settings", JSONB, nullable=False),
    Column("updated_at", _TIME, nullable=False),
)

# A voice made from samples of somebody who agreed to it. The samples are not kept. One that an
# organisation's key made stays known without its user, until it is gone at the vendor.
cloned_voice = Table(
    "cloned_voice",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False),  # the organisation's, once the user was deleted
    Column("organisation_id", _ID),  # whose key made it; null: the user's own did
    Column("tier", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("voice_id", Text),  # null while it is being made
    Column("name", Text, nullable=False),
    Column("sample_sha256s", ARRAY(Text), nullable=False),
    Column("consent_version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("requires_verification", Boolean, nullable=False, server_default=text("false")),
    Column("idempotency_key", Text),
    Column("request_hash", LargeBinary),
    Column("created_at", _TIME, nullable=False),
    Column("removal_asked_at", _TIME),
    CheckConstraint("state in ('making', 'ready', 'removing')", name="state"),
    CheckConstraint("(state = 'making') = (voice_id is null)", name="voice"),
    CheckConstraint("(idempotency_key is null) = (request_hash is null)", name="idempotency"),
    Index("ix_cloned_voice_user_id_voice_id", "user_id", "voice_id"),
    Index("ix_cloned_voice_voice_id", "voice_id"),
    Index(
        "ix_cloned_voice_organisation_id",
        "organisation_id",
        postgresql_where=text("organisation_id is not null"),
    ),
    Index(
        "uq_cloned_voice_user_id_idempotency_key",
        "user_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key is not null"),
    ),
    Index(
        "ix_cloned_voice_created_at",
        "created_at",
        postgresql_where=text("state = 'making'"),
    ),
)
