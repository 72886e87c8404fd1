"""Counts of wrong guesses in the database, where they need no second store to be there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from services.auth.domain.attempts import CLOCKS_APART, Failures
from shared.db.database import Connection, Row

_COLUMNS = "subject, failures, window_ends_at, blocked_until"
_OF = f"select {_COLUMNS} from login_failure where subject = any($1)"  # noqa: S608 - constants
# There may be no row to lock yet. Freed when the transaction ends.
_LOCK = "select pg_advisory_xact_lock($1)"
_SAVE = f"""
insert into login_failure ({_COLUMNS}) values ($1, $2, $3, $4)
on conflict (subject) do update set
    failures = excluded.failures,
    window_ends_at = excluded.window_ends_at,
    blocked_until = excluded.blocked_until
"""  # noqa: S608
# A window that ends much later than one that begins now began by a clock that was ahead.
_PRESENT = """f.window_ends_at > $2
    and f.window_ends_at <= $3 + greatest($3::timestamptz - $2::timestamptz, $4::interval)"""
_ADD = f"""
insert into login_failure as f (subject, failures, window_ends_at) values ($1, 1, $3)
on conflict (subject) do update set
    failures = case when {_PRESENT} then f.failures + 1 else 1 end,
    window_ends_at = case when {_PRESENT} then f.window_ends_at else $3 end
returning {_COLUMNS}
"""  # noqa: S608
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
        return (await self.of_all([subject])).get(subject)

    async def of_all(self, subjects: Sequence[str]) -> Mapping[str, Failures]:
        by_digest = {_digest(subject): subject for subject in subjects}
        rows = await self._connection.fetch(_OF, list(by_digest))
        return {by_digest[row["subject"]]: _from_row(row) for row in rows}

    async def hold(self, subject: str) -> Failures | None:
        number = int.from_bytes(_digest(subject)[:8], "big", signed=True)
        await self._connection.execute(_LOCK, number)
        return await self.of(subject)

    async def save(self, subject: str, failures: Failures) -> None:
        await self._connection.execute(
            _SAVE,
            _digest(subject),
            failures.count,
            failures.window_ends_at,
            failures.blocked_until,
        )

    async def add(self, subject: str, at: datetime, *, window_ends_at: datetime) -> Failures:
        row = await self._connection.fetchrow(
            _ADD, _digest(subject), at, window_ends_at, CLOCKS_APART
        )
        assert row is not None
        return _from_row(row)

    async def forget(self, subject: str) -> None:
        await self._connection.execute(_FORGET, _digest(subject))

    async def forget_before(self, at: datetime, *, most: int) -> int:
        return len(await self._connection.fetch(_FORGET_BEFORE, at, most))


def _from_row(row: Row) -> Failures:
    return Failures(row["failures"], row["window_ends_at"], row["blocked_until"])


def _digest(subject: str) -> bytes:
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).digest()
