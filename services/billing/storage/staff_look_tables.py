"""The table of who of the billing team looked at whose data."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Index, MetaData, Table, Text
from sqlalchemy.dialects import postgresql

_Id = postgresql.UUID(as_uuid=True)


def add_staff_look(metadata: MetaData) -> None:
    """Put its table beside billing's others."""
    Table(
        "staff_look",
        metadata,
        Column("id", _Id, primary_key=True),
        Column("looked_at", DateTime(timezone=True), nullable=False),
        Column("looked_by", _Id, nullable=False),
        Column("holder_id", _Id, nullable=False),
        # The route, never what it answered.
        Column("call", Text, nullable=False),
        Column("reason", Text),
        Index("ix_staff_look_holder_id", "holder_id", "id"),
        Index("ix_staff_look_looked_by", "looked_by", "id"),
    )
