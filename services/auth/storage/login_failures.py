"""Counts of wrong passwords in the database, where they need no second store to be there."""

from __future__ import annotations

import hashlib
from datetime import datetime

from services.auth.domain.attempts import Failures
from shared.db.database import Connection

_OF = "select failures, window_ends_at from login_failure where subject = $1"
_ADD = """
insert into login_failure as f (subject, failures, window_ends_at) values ($1, 1, $3)
on conflict (subject) do update set
    failures = case when f.window_ends_at > $2 then f.failures + 1 else 1 end,
    window_ends_at = case when f.window_ends_at > $2 then f.window_ends_at else $3 end
returning failures, window_ends_at
"""
_FORGET = "delete from login_failure where subject = $1"
_FORGET_BEFORE = """
delete from login_failure where subject in (
    select subject from login_failure where window_ends_at < $1 limit $2 for update skip locked
) returning subject
"""


class SqlLoginFailures:
    """The repository of failures."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of(self, subject: str) -> Failures | None:
        row = await self._connection.fetchrow(_OF, _digest(subject))
        return Failures(row["failures"], row["window_ends_at"]) if row else None

    async def add(self, subject: str, at: datetime, *, window_ends_at: datetime) -> Failures:
        row = await self._connection.fetchrow(_ADD, _digest(subject), at, window_ends_at)
        assert row is not None
        return Failures(row["failures"], row["window_ends_at"])

    async def forget(self, subject: str) -> None:
        await self._connection.execute(_FORGET, _digest(subject))

    async def forget_before(self, at: datetime, *, most: int) -> int:
        return len(await self._connection.fetch(_FORGET_BEFORE, at, most))


def _digest(subject: str) -> bytes:
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).digest()
