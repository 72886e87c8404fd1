"""The inbox, as far as forgetting goes; the unit of work itself writes it."""

from __future__ import annotations

from datetime import datetime

from shared.db.database import Connection

_FORGET_BEFORE = """
delete from inbox where event_id in (
    select event_id from inbox where handled_at < $1 limit $2 for update skip locked
) returning event_id
"""


class SqlInbox:
    """Which facts were handled already."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def forget_before(self, at: datetime, *, most: int) -> int:
        return len(await self._connection.fetch(_FORGET_BEFORE, at, most))
