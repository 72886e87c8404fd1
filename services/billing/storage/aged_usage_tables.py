"""The table of usage that came late."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Index, MetaData, Table, Text, text
from sqlalchemy.dialects import postgresql

_Id = postgresql.UUID(as_uuid=True)
_Moment = DateTime(timezone=True)


def add_aged_usage(metadata: MetaData) -> None:
    """Put its table beside billing's others."""
    Table(
        "aged_usage",
        metadata,
        Column("event_id", _Id, primary_key=True),
        Column("held_at", _Moment, nullable=False),
        Column("approved_by", _Id),
        Column("approved_at", _Moment),
        Column("approval_reason", Text),
        Column("released_by", _Id),
        Column("released_at", _Moment),
        Column("release_reason", Text),
        Index("ix_aged_usage_waiting", "event_id", postgresql_where=text("released_at is null")),
    )
