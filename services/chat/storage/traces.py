"""What chat holds of a user who is to be forgotten: deleted in pieces, since it may be much."""

from __future__ import annotations

from collections.abc import Collection

from shared.db.database import Connection
from shared.db.forgotten import erased
from shared.ids import UserId

_MESSAGES = """
delete from chat_message where id in (
    select m.id from chat_message m join chat_session s on s.id = m.session_id
    where s.user_id = $1 limit $2
)
"""
_SESSIONS = """
delete from chat_session where id in (select id from chat_session where user_id = $1 limit $2)
"""
# A running one is an open hold: it is paid for, and billing has yet to hear of it.
_SETTLED_TURNS = """
delete from generation where id in (
    select id from generation where user_id = $1 and state = 'settled' limit $2
)
"""
_KNOWN_KEYS = "delete from known_key where user_id = $1"
_PREFERENCE = "delete from preference where user_id = $1"
_RUNNING = "select distinct provider from generation where user_id = $1 and state = 'running'"


class SqlTraces:
    """A user's traces on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def erase(self, user_id: UserId, *, most: int) -> int:
        await self._connection.execute(_KNOWN_KEYS, user_id)
        await self._connection.execute(_PREFERENCE, user_id)
        left = most
        # In this order a session that goes takes nothing with it.
        for statement in (_SETTLED_TURNS, _MESSAGES, _SESSIONS):
            left -= erased(await self._connection.execute(statement, user_id, left))
        return most - left

    async def running(self, user_id: UserId) -> Collection[str]:
        rows = await self._connection.fetch(_RUNNING, user_id)
        return [row["provider"] for row in rows]
