"""The tables of webhooks and of spend alerts."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID

_Id = UUID(as_uuid=True)
_Moment = DateTime(timezone=True)
_NOW = text("now()")
_ENDPOINT = "webhook_endpoint.id"


def add_webhooks(metadata: MetaData) -> None:
    """Endpoints, what is to be delivered to them, and how far they have the ledger."""
    _add_endpoint(metadata)
    _add_delivery(metadata)
    # How far an endpoint of the operator's has each chain of the ledger, in numbers of its links.
    Table(
        "webhook_usage_cursor",
        metadata,
        Column("endpoint_id", _Id, ForeignKey(_ENDPOINT, ondelete="CASCADE"), nullable=False),
        Column("chain", Integer, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        PrimaryKeyConstraint("endpoint_id", "chain"),
    )
    # At which spending in a month a user wants to be told, and of what they were told.
    Table(
        "spend_threshold",
        metadata,
        Column("user_id", _Id, nullable=False),
        Column("microusd", BigInteger, nullable=False),
        Column("set_at", _Moment, nullable=False),
        PrimaryKeyConstraint("user_id", "microusd"),
        CheckConstraint("microusd > 0", name="more_than_nothing"),
    )
    Table(
        "spend_alert",
        metadata,
        Column("user_id", _Id, nullable=False),
        Column("month", Date, nullable=False),
        Column("threshold_microusd", BigInteger, nullable=False),
        Column("told_at", _Moment, nullable=False, server_default=_NOW),
        PrimaryKeyConstraint("user_id", "month", "threshold_microusd"),
    )


def _add_endpoint(metadata: MetaData) -> None:
    Table(
        "webhook_endpoint",
        metadata,
        Column("id", _Id, primary_key=True),
        Column("owner_kind", Text, nullable=False),
        Column("owner_id", _Id),  # none: the operator's
        Column("url", Text, nullable=False),
        Column("types", ARRAY(Text), nullable=False),
        # Sealed. The one before stays good for a while after a rotation.
        Column("secret", LargeBinary, nullable=False),
        Column("old_secret", LargeBinary),
        Column("old_secret_until", _Moment),
        Column("created_by", _Id, nullable=False),
        Column("created_at", _Moment, nullable=False),
        Column("disabled_at", _Moment),
        Column("disabled_because", Text),
        Column("failures", Integer, nullable=False, server_default=text("0")),
        Column("failing_since", _Moment),
        Column("paused_until", _Moment),  # the receiver asked for it, or fails
        CheckConstraint("owner_kind in ('user', 'organisation', 'operator')", name="known_owner"),
        CheckConstraint("(owner_kind = 'operator') = (owner_id is null)", name="owner_has_id"),
        CheckConstraint(
            "(disabled_at is null) = (disabled_because is null)", name="disabled_with_reason"
        ),
        Index("ix_webhook_endpoint_owner_id", "owner_id", "id"),
    )


def _add_delivery(metadata: MetaData) -> None:
    # One message to one endpoint. The ledger's own rows are not copied: a run of links tells which.
    Table(
        "webhook_delivery",
        metadata,
        Column("id", _Id, primary_key=True),
        Column("endpoint_id", _Id, ForeignKey(_ENDPOINT, ondelete="CASCADE"), nullable=False),
        Column("holder_id", _Id),  # whom it is about
        Column("type", Text, nullable=False),
        Column("effect_key", Text, nullable=False),
        Column("body", Text),
        Column("chain", Integer),
        Column("first_sequence", BigInteger),
        Column("last_sequence", BigInteger),
        Column("created_at", _Moment, nullable=False),
        Column("state", Text, nullable=False),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        Column("next_attempt_at", _Moment, nullable=False),
        Column("lease_id", _Id),
        Column("leased_until", _Moment),
        Column("last_attempt_at", _Moment),
        Column("last_status", Integer),
        Column("last_problem", Text),
        Column("settled_at", _Moment),
        UniqueConstraint("endpoint_id", "effect_key"),
        CheckConstraint("state in ('waiting', 'delivered', 'dead')", name="known_state"),
        CheckConstraint("(body is null) = (chain is not null)", name="text_or_ledger"),
        Index(
            "ix_webhook_delivery_waiting",
            "endpoint_id",
            "next_attempt_at",
            postgresql_where=text("state = 'waiting'"),
        ),
        Index(
            "ix_webhook_delivery_leased",
            "endpoint_id",
            postgresql_where=text("lease_id is not null"),
        ),
        Index(
            "ix_webhook_delivery_usage",
            "endpoint_id",
            postgresql_where=text("state = 'waiting' and chain is not null"),
        ),
        Index("ix_webhook_delivery_endpoint_id", "endpoint_id", "id"),
        Index("ix_webhook_delivery_holder_id", "holder_id"),
        Index(
            "ix_webhook_delivery_dead",
            "endpoint_id",
            "id",
            postgresql_where=text("state = 'dead'"),
        ),
        Index(
            "ix_webhook_delivery_settled_at",
            "settled_at",
            postgresql_where=text("settled_at is not null"),
        ),
    )
