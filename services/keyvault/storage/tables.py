"""The tables. Nothing in here opens without the keyring, which lies elsewhere."""

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
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

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

# Which versions of the keyring each running process has last opened the vault with.
keyring_replica = Table(
    "keyring_replica",
    metadata,
    Column("replica", Text, primary_key=True),
    Column("active", Integer, nullable=False),
    Column("versions", ARRAY(Integer), nullable=False),
    # Past this it counts as gone: it has said nothing for several looks at its keyring.
    Column("good_until", DateTime(timezone=True), nullable=False),
)

# How many data keys were ever rewrapped to a version, by whomever.
keyring_rewrap = Table(
    "keyring_rewrap",
    metadata,
    Column("kek_version", Integer, primary_key=True, autoincrement=False),
    Column("rewrapped", BigInteger, nullable=False),
    Column("last_at", DateTime(timezone=True), nullable=False),
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
    # The order in which a rotation goes through what an older version wrapped.
    Index("ix_data_key_kek_version_id", "kek_version", "id"),
)

# Keys of fingerprints, wrapped by a key-encryption key that lies elsewhere.
sealed_root = Table(
    "sealed_root",
    metadata,
    Column("purpose", Text),
    Column("version", Integer),
    Column("kek_version", Integer, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    PrimaryKeyConstraint("purpose", "version"),
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
    Column("details", JSONB, nullable=False, server_default=_EMPTY),
    Column("last_validated_at", DateTime(timezone=True)),
    Column("last_error", Text),
    Column("next_check_at", DateTime(timezone=True)),
    Column("failed_checks", Integer, nullable=False, server_default=text("0")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    # Null when no check is under way.
    Column("check_requested_at", DateTime(timezone=True)),
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
    # Who asked for it, or for whom it was: of an organisation's keys the owner does not say it.
    Column("user_id", UUID(as_uuid=True)),
    Column("request_id", Text),
    # Unique: this is what makes a grant good for one use only.
    Column("grant_id", UUID(as_uuid=True), unique=True),
    Column("at", DateTime(timezone=True), nullable=False),
    CheckConstraint(
        "kind in ('stored', 'used', 'validated', 'deleted', 'not_opened')", name="kind"
    ),
    Index("ix_audit_entry_owner_id_owner_type_id", "owner_id", "owner_type", "id"),
    # How often keys were stored and checked within the last minute.
    Index(
        "ix_audit_entry_checks",
        "owner_id",
        "owner_type",
        "kind",
        "id",
        postgresql_where=text("kind in ('stored', 'validated')"),
    ),
    # A member finds their own uses of an organisation's keys.
    Index(
        "ix_audit_entry_member",
        "user_id",
        "id",
        postgresql_where=text("owner_type = 'organisation' and user_id is not null"),
    ),
)

# The last word on who has a seat, where it is newer than the access tokens that are about; older
# ones are forgotten.
seat = Table(
    "seat",
    metadata,
    Column("user_id", UUID(as_uuid=True)),
    Column("organisation_id", UUID(as_uuid=True)),
    Column("is_taken", Boolean, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("user_id", "organisation_id"),
    Index("ix_seat_at", "at"),
)

# Organisations that are gone: a key that comes late must not be stored for them.
ended_organisation = Table(
    "ended_organisation",
    metadata,
    Column("organisation_id", UUID(as_uuid=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
)

# Each time a service was stopped, for good: a stop in force is one that nobody has lifted yet.
service_stop = Table(
    "service_stop",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("service", Text, nullable=False),
    Column("stopped_at", DateTime(timezone=True), nullable=False),
    Column("stopped_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("resumed_at", DateTime(timezone=True)),
    Column("resumed_by", Text),
    CheckConstraint("num_nulls(resumed_at, resumed_by) in (0, 2)", name="resumed"),
    # Every use of a key looks here.
    Index(
        "uq_service_stop_in_force",
        "service",
        unique=True,
        postgresql_where=text("resumed_at is null"),
    ),
)

# How many keys each process gave to each service in its last whole second: a row is written by its
# own process alone, so that nobody waits for anybody.
service_usage = Table(
    "service_usage",
    metadata,
    Column("service", Text),
    Column("process", UUID(as_uuid=True)),
    Column("uses", Integer, nullable=False),
    Column("reported_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("service", "process"),
)

# For whom a service used keys lately; forgotten when the window has passed.
service_user = Table(
    "service_user",
    metadata,
    Column("service", Text),
    Column("user_id", UUID(as_uuid=True)),
    Column("seen_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("service", "user_id"),
)
