"""The tables. Nothing in here opens without the keyring, which lies elsewhere."""

from __future__ import annotations

from sqlalchemy import (
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
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from shared.db.forgotten import add_forgotten_user
from shared.db.tables import new_metadata

metadata = new_metadata()
add_forgotten_user(metadata)

_EMPTY = text("'{}'")

keyring_canary = Table(
    "keyring_canary",
    metadata,
    Column("purpose", Text),
    Column("version", Integer),
    Column("proof", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    PrimaryKeyConstraint("purpose", "version"),
    CheckConstraint("purpose in ('wrapping', 'fingerprint')", name="purpose"),
)

data_key = Table(
    "data_key",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("owner_type", Text, nullable=False),
    Column("owner_id", UUID(as_uuid=True), nullable=False),
    Column("kek_version", Integer, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    UniqueConstraint("owner_id", "owner_type"),
)

provider_key = Table(
    "provider_key",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("owner_type", Text, nullable=False),
    Column("owner_id", UUID(as_uuid=True), nullable=False),
    Column("provider", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("data_key_id", UUID(as_uuid=True), ForeignKey("data_key.id")),
    Column("envelope", LargeBinary),
    Column("fingerprint", LargeBinary),
    Column("fingerprint_version", Integer),
    Column("capabilities", ARRAY(Text), nullable=False, server_default=_EMPTY),
    Column("models", ARRAY(Text), nullable=False, server_default=_EMPTY),
    Column("last_validated_at", DateTime(timezone=True)),
    Column("last_error", Text),
    Column("next_check_at", DateTime(timezone=True)),
    Column("failed_checks", Integer, nullable=False, server_default=text("0")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("owner_id", "owner_type", "provider"),
    CheckConstraint("version >= 1", name="version"),
    CheckConstraint(
        "status in ('pending', 'valid', 'limited', 'invalid', 'unreachable', 'revoked')",
        name="status",
    ),
    # A withdrawn key holds nothing; every other one holds a whole secret.
    CheckConstraint(
        "num_nulls(data_key_id, envelope, fingerprint, fingerprint_version)"
        " = case status when 'revoked' then 4 else 0 end",
        name="secret",
    ),
    Index(
        "ix_provider_key_next_check_at",
        "next_check_at",
        postgresql_where=text("next_check_at is not null"),
    ),
    Index("ix_provider_key_data_key_id", "data_key_id"),
)

audit_entry = Table(
    "audit_entry",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("owner_type", Text, nullable=False),
    Column("owner_id", UUID(as_uuid=True), nullable=False),
    Column("provider", Text, nullable=False),
    # No foreign key: the trail outlives what it is about.
    Column("key_id", UUID(as_uuid=True), nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("service", Text, nullable=False),
    Column("request_id", Text),
    # Unique: this is what makes a grant good for one use only.
    Column("grant_id", UUID(as_uuid=True), unique=True),
    Column("at", DateTime(timezone=True), nullable=False),
    CheckConstraint(
        "kind in ('stored', 'used', 'validated', 'deleted', 'not_opened')", name="kind"
    ),
    Index("ix_audit_entry_owner_id_owner_type_id", "owner_id", "owner_type", "id"),
)
