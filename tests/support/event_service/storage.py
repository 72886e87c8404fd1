"""What the test service keeps: an effect per event, and what its faults need to remember."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Column, Identity, Table, Text
from sqlalchemy.dialects import postgresql

from shared.db.database import Database
from shared.db.engine import sync_engine
from shared.db.tables import new_metadata
from shared.db.unit_of_work import SqlUnitOfWork

metadata = new_metadata()

# Without a unique constraint on the event: a double effect must show, not fail.
Table(
    "effect",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("event_id", postgresql.UUID(as_uuid=True), nullable=False),
    Column("note", Text, nullable=False),
)
# Committed before anything else happens to a delivery, so that a test can see a second one.
Table(
    "delivery",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("event_id", postgresql.UUID(as_uuid=True), nullable=False),
)
Table("tick", metadata, Column("id", BigInteger, Identity(), primary_key=True))
Table("happened", metadata, Column("what", Text, primary_key=True))
Table("gate", metadata, Column("name", Text, primary_key=True), Column("open", Boolean))


def create_tables(url: str) -> None:
    """Everything above, in an empty database."""
    engine = sync_engine(url)
    metadata.create_all(engine)
    engine.dispose()


class HeraldWork(SqlUnitOfWork):
    """The producing side."""

    service = "herald"


class ScribeWork(SqlUnitOfWork):
    """The listening side."""

    service = "scribe"

    async def write(self, effects: Sequence[tuple[UUID, str]]) -> None:
        await self.connection.executemany(
            "insert into effect (event_id, note) values ($1, $2)", effects
        )


async def note_delivery(database: Database, ids: Sequence[UUID]) -> None:
    """Remember that these events arrived, whatever becomes of them."""
    await database.execute("insert into delivery (event_id) select unnest($1::uuid[])", ids)


async def happens_first(database: Database, what: str) -> bool:
    """Whether this has never happened before, whatever dies in between."""
    row: Any = await database.fetchrow(
        "insert into happened values ($1) on conflict do nothing returning what", what
    )
    return row is not None


async def is_open(database: Database, gate: str) -> bool:
    """Whether a gate lets pass; one that nobody closed does."""
    row = await database.fetchrow("select open from gate where name = $1", gate)
    return row is None or bool(row["open"])
