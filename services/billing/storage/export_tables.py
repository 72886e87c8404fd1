"""What was exported of the usage: by whom, and of which days."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

_Id = UUID(as_uuid=True)
_Moment = DateTime(timezone=True)


def add_export_tables(metadata: MetaData) -> None:
    """Add them to billing's."""
    # Who asked for which file of everybody's usage.
    Table(
        "usage_export",
        metadata,
        Column("id", _Id, primary_key=True),
        Column("asked_by", _Id, nullable=False),
        Column("asked_at", _Moment, nullable=False),
        Column("begins", _Moment, nullable=False),
        Column("ends", _Moment, nullable=False),
        Column("format", Text, nullable=False),
        CheckConstraint("format in ('csv', 'ndjson', 'parquet')", name="known_format"),
        CheckConstraint("begins < ends", name="not_empty"),
    )
    # What lies at a target of each day, and who is at work on it.
    Table(
        "usage_export_day",
        metadata,
        Column("target", Text, nullable=False),
        Column("day", Date, nullable=False),
        Column("revision", Integer, nullable=False, server_default=text("0")),
        Column("state", Text, nullable=False, server_default=text("''")),
        Column("complete", Boolean, nullable=False, server_default=text("false")),
        Column("rows", BigInteger, nullable=False, server_default=text("0")),
        Column("exported_at", _Moment),
        Column("checked_at", _Moment),
        Column("claimed_until", _Moment),
        Column("failed_at", _Moment),
        PrimaryKeyConstraint("target", "day"),
    )
