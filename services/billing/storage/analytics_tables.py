"""The tables of the billing team's analytics: rollups that follow the ledger's chains."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import UUID

_Id = UUID(as_uuid=True)
_Moment = DateTime(timezone=True)
_SUMS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
    "cost_microusd",
)


def add_analytics_tables(metadata: MetaData) -> None:
    """Put them beside billing's others."""
    _add_activity(metadata)
    _add_total(metadata)
    _add_dashboard_pass(metadata)


def _add_activity(metadata: MetaData) -> None:
    # How far each chain was read; what has no link yet is not counted yet.
    Table(
        "analytics_cursor",
        metadata,
        Column("chain", Integer, primary_key=True, autoincrement=False),
        Column("sequence", BigInteger, nullable=False),
    )
    # A user was active in a service ('all': in any), and their tier at the last call of that time.
    Table(
        "user_activity",
        metadata,
        Column("grain", Text, nullable=False),
        Column("begins", Date, nullable=False),
        Column("service", Text, nullable=False),
        Column("user_id", _Id, nullable=False),
        Column("tier", Text, nullable=False),
        Column("last_at", _Moment, nullable=False),
        PrimaryKeyConstraint("grain", "begins", "service", "user_id"),
        CheckConstraint("grain in ('day', 'week', 'month')", name="known_grain"),
        # Users are counted in it alone; it is small, since so many rows are alike in it.
        Index("ix_user_activity_counted", "grain", "service", "begins", "tier"),
    )
    # The day of the first thing that billing heard of a user: the registration, or a call.
    Table(
        "user_first_seen",
        metadata,
        Column("user_id", _Id, primary_key=True),
        Column("day", Date, nullable=False),
    )


def _add_total(metadata: MetaData) -> None:
    # What all users used together, without the sandbox.
    Table(
        "usage_total",
        metadata,
        Column("day", Date, nullable=False),
        Column("tier", Text, nullable=False),
        Column("service", Text, nullable=False),
        Column("provider", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("operation", Text, nullable=False),
        Column("requests", BigInteger, nullable=False),
        Column("unpriced_requests", BigInteger, nullable=False),
        *(Column(name, Numeric(38, 0), nullable=False) for name in _SUMS),
        PrimaryKeyConstraint("day", "tier", "service", "provider", "model", "operation"),
    )


def _add_dashboard_pass(metadata: MetaData) -> None:
    # Who may see the dashboard for a while: by a link, once, then by the visit that it opened.
    Table(
        "dashboard_pass",
        metadata,
        Column("digest", LargeBinary, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("user_id", _Id, nullable=False),
        Column("sign_in_id", _Id, nullable=False),
        Column("expires_at", _Moment, nullable=False),
        CheckConstraint("kind in ('link', 'visit')", name="known_kind"),
        Index("ix_dashboard_pass_expires_at", "expires_at"),
    )
