"""The tables of auth's database."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
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
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

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
    Column("last_signed_in_at", _Moment),
    # Only a proven address belongs to one account alone: anybody may claim one, and must not learn
    # from our answer whether it is somebody's.
    Index(
        "ux_user_account_verified_email",
        "email",
        unique=True,
        postgresql_where=text("email_verified"),
    ),
    Index("ix_user_account_email", "email"),
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
    Column("authenticated_at", _Moment, nullable=False),
    Column("methods", ARRAY(Text), nullable=False),
    Column("client_id", Text),
    # What the client asked for; null is all that the user may do.
    Column("scopes", ARRAY(Text)),
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
    Column("blocked_until", _Moment),
    Index("ix_login_failure_window_ends_at", "window_ends_at"),
)

# Sign-ins and personal tokens that ended so lately that access tokens of theirs may still live.
Table(
    "ended_credential",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("user_id", UUID(as_uuid=True), nullable=False),
    Column("ended_at", _Moment, nullable=False),
    Index("ix_ended_credential_ended_at", "ended_at"),
)

# What only somebody knows who reads the mail of an address. The secret itself is only in the mail.
Table(
    "mailed_proof",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("purpose", Text, nullable=False),
    Column("user_id", ForeignKey("user_account.id", ondelete="cascade"), nullable=False),
    Column("email", Text, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("expires_at", _Moment, nullable=False),
    Column("used_at", _Moment),
    CheckConstraint(
        "purpose in ('verify_email', 'change_email', 'reset_password')", name="known_purpose"
    ),
    Index("ix_mailed_proof_user_id", "user_id", "purpose"),
    Index("ix_mailed_proof_expires_at", "expires_at"),
)

# Mails that wait to be sent, sealed, since they hold secrets. Sent ones are deleted.
Table(
    "outgoing_mail",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("sealed_facts", LargeBinary, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", _Moment, nullable=False),
    Index("ix_outgoing_mail_due_at", "due_at"),
)

Table(
    "totp",
    metadata,
    Column("user_id", ForeignKey("user_account.id", ondelete="cascade"), primary_key=True),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("confirmed_at", _Moment),
    # The time step of the last code that was taken: none is good twice.
    Column("last_step", BigInteger, nullable=False),
)

Table(
    "recovery_code",
    metadata,
    Column("user_id", ForeignKey("user_account.id", ondelete="cascade"), primary_key=True),
    Column("code_hash", LargeBinary, primary_key=True),
    Column("used_at", _Moment),
)

Table(
    "personal_token",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("user_id", ForeignKey("user_account.id", ondelete="cascade"), nullable=False),
    Column("name", Text, nullable=False),
    Column("token_hash", LargeBinary, nullable=False),
    Column("hint", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("expires_at", _Moment, nullable=False),
    Column("last_used_at", _Moment),
    Column("revoked_at", _Moment),
    # In whose sign-in it was made; null in one of our own.
    Column("client_id", Text),
    UniqueConstraint("token_hash"),
    CheckConstraint("char_length(name) between 1 and 100", name="name_length"),
    Index("ix_personal_token_user_id_id", "user_id", "id"),
    Index("ix_personal_token_expires_at", "expires_at"),
    Index(
        "ix_personal_token_of_client",
        "client_id",
        postgresql_where=text("client_id is not null and revoked_at is null"),
    ),
)

Table(
    "organisation",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("name", Text, nullable=False),
    # What billing sold: everybody who has a seat has this tier.
    Column("tier", Text, nullable=False),
    Column("seats", Integer, nullable=False),
    # Where it is to have other ones from the next period on.
    Column("next_seats", Integer),
    Column("subscription_revision", BigInteger, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("updated_at", _Moment, nullable=False),
    CheckConstraint("char_length(name) between 1 and 100", name="name_length"),
    CheckConstraint("seats >= 1", name="some_seats"),
)

# A user belongs to one organisation at most: an access token names one.
Table(
    "membership",
    metadata,
    Column("user_id", ForeignKey("user_account.id", ondelete="cascade"), primary_key=True),
    Column("organisation_id", ForeignKey("organisation.id", ondelete="cascade"), nullable=False),
    Column("role", Text, nullable=False),
    Column("joined_at", _Moment, nullable=False),
    Column("seated_at", _Moment),
    # Of who lost their seat since there were fewer; they may get it back.
    Column("seat_lost_at", _Moment),
    Column("sat_since", _Moment),
    CheckConstraint("role in ('owner', 'admin', 'billing', 'member')", name="known_role"),
    Index("ix_membership_organisation_id", "organisation_id", "joined_at"),
)

Table(
    "invitation",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("organisation_id", ForeignKey("organisation.id", ondelete="cascade"), nullable=False),
    Column("email", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("token_hash", LargeBinary, nullable=False),
    Column("invited_by", UUID(as_uuid=True), nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("expires_at", _Moment, nullable=False),
    Column("accepted_at", _Moment),
    Column("accepted_by", UUID(as_uuid=True)),
    Column("withdrawn_at", _Moment),
    UniqueConstraint("token_hash"),
    CheckConstraint("role in ('owner', 'admin', 'billing', 'member')", name="known_role"),
    Index("ix_invitation_organisation_id", "organisation_id", "id"),
    Index("ix_invitation_expires_at", "expires_at"),
)

Table(
    "oauth_client",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("redirect_uris", ARRAY(Text), nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("disabled_at", _Moment),
)

Table(
    "authorization_code",
    metadata,
    Column("code_hash", LargeBinary, primary_key=True),
    Column("client_id", ForeignKey("oauth_client.client_id", ondelete="cascade"), nullable=False),
    Column("user_id", ForeignKey("user_account.id", ondelete="cascade"), nullable=False),
    Column("redirect_uri", Text, nullable=False),
    Column("code_challenge", Text, nullable=False),
    Column("scopes", ARRAY(Text)),
    Column("authenticated_at", _Moment, nullable=False),
    Column("methods", ARRAY(Text), nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("expires_at", _Moment, nullable=False),
    Column("used_at", _Moment),
    # The sign-in that the code began; a second use of the code ends it.
    Column("sign_in_id", UUID(as_uuid=True)),
    Index("ix_authorization_code_expires_at", "expires_at"),
    # Whoever ends all sign-ins of a user makes their codes void.
    Index("ix_authorization_code_unused", "user_id", postgresql_where=text("used_at is null")),
)

# A user who is to be forgotten everywhere. Outlives the account, of which only the id is left.
Table(
    "erasure",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("user_id", UUID(as_uuid=True), nullable=False),
    Column("receipt_hash", LargeBinary, nullable=False),
    Column("requested_at", _Moment, nullable=False),
    Column("completed_at", _Moment),
    UniqueConstraint("user_id"),
    UniqueConstraint("receipt_hash"),
)

Table(
    "erasure_acknowledgement",
    metadata,
    Column("erasure_id", ForeignKey("erasure.id", ondelete="cascade"), primary_key=True),
    Column("service", Text, primary_key=True),
    Column("forgotten_at", _Moment, nullable=False),
)

# Who did what, insert only. It names people by their ids alone, so that it may outlive them.
Table(
    "audit_event",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("at", _Moment, nullable=False),
    Column("action", Text, nullable=False),
    Column("user_id", UUID(as_uuid=True)),
    Column("actor_id", UUID(as_uuid=True)),
    Column("organisation_id", UUID(as_uuid=True)),
    Column("facts", JSONB, nullable=False),
    # What no reader could read must not get in: the chain would stand still before it.
    CheckConstraint("at >= '2000-01-01Z' and at < '9999-01-01Z'", name="sensible_time"),
    CheckConstraint("char_length(action) between 1 and 100", name="action_length"),
    CheckConstraint("jsonb_typeof(facts) = 'object'", name="named_facts"),
    Index("ix_audit_event_user_id_id", "user_id", "id"),
    Index("ix_audit_event_organisation_id_id", "organisation_id", "id"),
    Index(
        "ix_audit_event_by_others",
        "actor_id",
        "id",
        postgresql_where=text("user_id is distinct from actor_id"),
    ),
)

# From where it was done: personal, so it is no part of the chain and goes with the user.
Table(
    "audit_origin",
    metadata,
    Column("event_id", ForeignKey("audit_event.id"), primary_key=True),
    Column("user_id", UUID(as_uuid=True)),
    Column("device", Text, nullable=False),
    Column("address", Text, nullable=False),
    Index("ix_audit_origin_user_id", "user_id"),
)

# Events that the chain has yet to take up; a trigger on `audit_event` adds them. Ids and times say
# nothing about the order of commits, so no position in the trail says what has been taken.
Table(
    "audit_unlinked",
    metadata,
    Column("event_id", ForeignKey("audit_event.id"), primary_key=True),
    Column("noted_at", _Moment, nullable=False, server_default=text("now()")),
)

# The chain: each link is a MAC over the one before and over its event. Triggers in the migration
# let nobody change or delete a row of this table or of `audit_event`.
Table(
    "audit_link",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", ForeignKey("audit_event.id"), nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    UniqueConstraint("event_id"),
)
