"""Sign-ins and personal tokens whose access tokens may outlive them by some minutes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from shared.db.database import Connection
from shared.ids import UserId

_ADD = """
insert into ended_credential (id, user_id, ended_at) select unnest($1::uuid[]), $2, $3
on conflict (id) do update set ended_at = greatest(ended_credential.ended_at, excluded.ended_at)
"""
_TAKE_BACK = "delete from ended_credential where id = any($1::uuid[])"
_AMONG = "select id from ended_credential where id = any($1::uuid[])"
_SINCE = "select id from ended_credential where ended_at >= $1"
_FORGET_BEFORE = """
delete from ended_credential where id in (
    select id from ended_credential where ended_at < $1 limit $2 for update skip locked
) returning id
"""


class SqlEndedCredentials:
    """The repository of what has ended. `fresh`: what this transaction added; `good_again`: what it
    took back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.fresh: list[UUID] = []
        self.good_again: list[UUID] = []

    async def add(self, ids: Collection[UUID], *, of: UserId, at: datetime) -> None:
        if ids:
            await self._connection.execute(_ADD, list(ids), of, at)
            self.fresh += ids

    async def take_back(self, ids: Collection[UUID]) -> None:
        if ids:
            await self._connection.execute(_TAKE_BACK, list(ids))
            self.good_again += ids

    async def since(self, at: datetime) -> Sequence[UUID]:
        return [row["id"] for row in await self._connection.fetch(_SINCE, at)]

    async def forget_before(self, at: datetime, *, most: int) -> int:
        return len(await self._connection.fetch(_FORGET_BEFORE, at, most))


async def ended_among(connection: Connection, ids: Collection[UUID]) -> Sequence[UUID]:
    """Those of the ids that have ended, as far as it is committed."""
    return [row["id"] for row in await connection.fetch(_AMONG, list(ids))]
