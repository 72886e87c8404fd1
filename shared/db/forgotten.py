"""Users whom a service is to forget, and has perhaps forgotten already.

The row makes an erasure lasting: it is worked on until nothing of the user is left, and then for
as long as an access token could still bring something new.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from shared.db.database import Connection, Row
from shared.erasure import ErasureId, Forgetting
from shared.ids import UserId

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table

_COLUMNS = "user_id, erasure_id, asked_at, done_at"

_ADD = """
insert into forgotten_user (user_id, erasure_id, asked_at)
select distinct on (user_id) * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
     as asked (user_id, erasure_id, asked_at)
order by user_id
on conflict (user_id) do update set done_at = null
"""

_UNFINISHED = f"""
select {_COLUMNS} from forgotten_user where done_at is null order by asked_at limit $1
"""  # noqa: S608 - built from constants

_FINISHED = f"""
select {_COLUMNS} from forgotten_user
where done_at is not null and ($1::uuid is null or user_id > $1) order by user_id limit $2
"""  # noqa: S608 - built from constants

# One worker erases a user at a time; another one's row is left to it.
_HOLD = f"""
select {_COLUMNS} from forgotten_user where user_id = $1 for update skip locked
"""  # noqa: S608 - built from constants

_FINISH = "update forgotten_user set done_at = $2 where user_id = $1 and done_at is null"
_DROP = "delete from forgotten_user where user_id = $1"
_AMONG = "select user_id from forgotten_user where user_id = any($1::uuid[])"


def add_forgotten_user(metadata: MetaData) -> Table:
    """Declare the table in a service's own metadata."""
    # Here and not above: who only asks for rows goes without it, and starts a fifth sooner.
    from sqlalchemy import Column, DateTime, Table
    from sqlalchemy.dialects.postgresql import UUID

    return Table(
        "forgotten_user",
        metadata,
        Column("user_id", UUID(as_uuid=True), primary_key=True),
        Column("erasure_id", UUID(as_uuid=True), nullable=False),
        Column("asked_at", DateTime(timezone=True), nullable=False),
        Column("done_at", DateTime(timezone=True)),
    )


class SqlForgottenUsers:
    """Forgotten users on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, forgettings: Sequence[Forgetting]) -> None:
        ordered = sorted(forgettings, key=lambda forgetting: forgetting.user_id)
        await self._connection.execute(
            _ADD,
            [forgetting.user_id for forgetting in ordered],
            [forgetting.erasure_id for forgetting in ordered],
            [forgetting.asked_at for forgetting in ordered],
        )

    async def unfinished(self, *, most: int) -> Sequence[Forgetting]:
        return [_from_row(row) for row in await self._connection.fetch(_UNFINISHED, most)]

    async def finished(self, *, after: UserId | None, most: int) -> Sequence[Forgetting]:
        return [_from_row(row) for row in await self._connection.fetch(_FINISHED, after, most)]

    async def hold(self, user_id: UserId) -> Forgetting | None:
        row = await self._connection.fetchrow(_HOLD, user_id)
        return _from_row(row) if row else None

    async def finish(self, user_id: UserId, at: datetime) -> None:
        await self._connection.execute(_FINISH, user_id, at)

    async def drop(self, user_id: UserId) -> None:
        await self._connection.execute(_DROP, user_id)

    async def among(self, user_ids: Sequence[UserId]) -> set[UserId]:
        rows = await self._connection.fetch(_AMONG, list(user_ids))
        return {UserId(row["user_id"]) for row in rows}


def erased(command_tag: str) -> int:
    """How many rows a DELETE took."""
    return int(command_tag.rpartition(" ")[2])


def _from_row(row: Row) -> Forgetting:
    return Forgetting(
        user_id=UserId(row["user_id"]),
        erasure_id=ErasureId(row["erasure_id"]),
        asked_at=row["asked_at"],
        done_at=row["done_at"],
    )
