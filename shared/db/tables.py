"""Tables that every service has in its own database: outbox, inbox and dead events."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

_NOW = text("now()")


def new_metadata() -> MetaData:
    """A MetaData that already holds the event tables."""
    metadata = MetaData(naming_convention=NAMING)
    _add_outbox(metadata)
    _add_inbox(metadata)
    return metadata


def _add_outbox(metadata: MetaData) -> None:
    # What the relay has yet to send. Small, since sent rows move on; claimed by state and lease,
    # never by position, because identity values commit out of order.
    Table(
        "outbox",
        metadata,
        Column("event_id", UUID(as_uuid=True), primary_key=True),
        Column("stream", Text, nullable=False),
        Column("envelope", JSONB, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
        Column("sequence", BigInteger),
        Column("leased_until", DateTime(timezone=True)),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        # Those with a number come first, as in the order of a claim: null is the last.
        Index("ix_outbox_order", "stream", "sequence", "created_at"),
    )
    # What was sent, kept so that a consumer's gap can be filled from here.
    Table(
        "outbox_sent",
        metadata,
        Column("stream", Text),
        Column("sequence", BigInteger),
        Column("event_id", UUID(as_uuid=True), nullable=False),
        Column("envelope", JSONB, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False),
        Column("sent_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
        PrimaryKeyConstraint("stream", "sequence"),
        Index("ix_outbox_sent_stream_sent_at", "stream", "sent_at"),
        # For backups and restores, which ask for all streams since a moment.
        Index("ix_outbox_sent_sent_at", "sent_at"),
    )
    Table(
        "outbox_stream",
        metadata,
        Column("stream", Text, primary_key=True),
        Column(
            "epoch",
            UUID(as_uuid=True),
            nullable=False,
            server_default=text("gen_random_uuid()"),
        ),
        Column("last_sequence", BigInteger, nullable=False, server_default=text("0")),
    )


def _add_inbox(metadata: MetaData) -> None:
    Table(
        "inbox",
        metadata,
        Column("event_id", UUID(as_uuid=True), primary_key=True),
        Column("handled_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
        Index("ix_inbox_handled_at", "handled_at"),
    )
    Table(
        "dead_event",
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("task", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("body", JSONB, nullable=False),
        Column("stored_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
        Column("replayed_at", DateTime(timezone=True)),
    )
