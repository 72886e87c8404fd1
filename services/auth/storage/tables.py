"""The tables of auth's database."""

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
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import UUID

from shared.db.tables import new_metadata

metadata = new_metadata()

_Moment = DateTime(timezone=True)

# Not `user`: that is a word of SQL's own, to be quoted everywhere.
Table(
    "user_account",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("email", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("username_key", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("password_changed_at", _Moment, nullable=False),
    Column("tier", Text, nullable=False),
    Column("tier_revision", BigInteger, nullable=False),
    Column("role", Text, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("email_verified", Boolean, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("updated_at", _Moment, nullable=False),
    UniqueConstraint("email"),
    UniqueConstraint("username_key"),
    CheckConstraint("char_length(username) between 1 and 80", name="username_length"),
    CheckConstraint("role in ('member', 'operator', 'billing')", name="known_role"),
)

Table(
    "sign_in",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("user_id", ForeignKey("user_account.id", ondelete="cascade"), nullable=False),
    Column("device", Text, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("pepper_version", Integer, nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("rotated_at", _Moment, nullable=False),
    Column("expires_at", _Moment, nullable=False),
    Column("ended_at", _Moment),
    Column("end_reason", Text),
    CheckConstraint("(ended_at is null) = (end_reason is null)", name="ended_for_a_reason"),
    Index("ix_sign_in_user_id_id", "user_id", "id"),
    Index("ix_sign_in_expires_at", "expires_at"),
    Index("ix_sign_in_ended_at", "ended_at"),
)

# The subject is kept as a hash: people type passwords into the wrong field.
Table(
    "login_failure",
    metadata,
    Column("subject", LargeBinary, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("window_ends_at", _Moment, nullable=False),
    Index("ix_login_failure_window_ends_at", "window_ends_at"),
)
