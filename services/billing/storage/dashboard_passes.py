"""Links to the dashboard and the visits that they opened."""

from __future__ import annotations

from datetime import datetime

from services.billing.domain.dashboard import DashboardPass, PassKind
from shared.db.database import Connection, Row
from shared.ids import UserId

_ADD = """
insert into dashboard_pass (digest, kind, user_id, sign_in_id, expires_at)
values ($1, $2, $3, $4, $5)
"""
_GET = "select * from dashboard_pass where digest = $1 and kind = $2 and expires_at > $3"
_USE_UP = """
delete from dashboard_pass where digest = $1 and kind = $2 and expires_at > $3 returning *
"""
_FORGET = "delete from dashboard_pass where user_id = $1"
_CLEAR = "delete from dashboard_pass where expires_at <= $1"


class SqlDashboardPasses:
    """Passes on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, new: DashboardPass) -> None:
        await self._connection.execute(
            _ADD, new.digest, new.kind.value, new.user_id, new.sign_in_id, new.expires_at
        )

    async def get(self, digest: bytes, kind: PassKind, now: datetime) -> DashboardPass | None:
        return _from_row(await self._connection.fetchrow(_GET, digest, kind.value, now))

    async def use_up(self, digest: bytes, kind: PassKind, now: datetime) -> DashboardPass | None:
        return _from_row(await self._connection.fetchrow(_USE_UP, digest, kind.value, now))

    async def clear(self, now: datetime) -> None:
        await self._connection.execute(_CLEAR, now)

    async def forget(self, user_id: UserId) -> None:
        await self._connection.execute(_FORGET, user_id)


def _from_row(row: Row | None) -> DashboardPass | None:
    if row is None:
        return None
    return DashboardPass(
        digest=row["digest"],
        kind=PassKind(row["kind"]),
        user_id=UserId(row["user_id"]),
        sign_in_id=row["sign_in_id"],
        expires_at=row["expires_at"],
    )
