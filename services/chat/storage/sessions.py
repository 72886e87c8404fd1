"""Chat sessions and messages in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from services.chat.domain.conversation import (
    ChatSession,
    Message,
    MessageId,
    MessageStatus,
    Role,
    SessionId,
)
from shared.db.database import Connection, Row
from shared.ids import UserId

_COLUMNS = "id, user_id, name, provider, system_prompt, created_at, updated_at"

_ADD = f"insert into chat_session ({_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7)"  # noqa: S608
_GET = f"select {_COLUMNS} from chat_session where id = $1 and user_id = $2"  # noqa: S608
_LIST = f"""
select {_COLUMNS} from chat_session
where user_id = $1 and (updated_at, id) < ($3, $4)
order by updated_at desc, id desc limit $2
"""  # noqa: S608
# Ids are made in time's order.
_OF_USER = f"""
select {_COLUMNS} from chat_session where user_id = $1 and id > $2 order by id limit $3
"""  # noqa: S608
_SAVE = """
update chat_session set name = $3, provider = $4, system_prompt = $5, updated_at = $6
where id = $1 and user_id = $2
"""
_DELETE = "delete from chat_session where id = $1 and user_id = $2"

MESSAGE_COLUMNS = """
id, session_id, role, content, status, created_at, provider, model, usage, cost_microusd,
processing_time_ms
"""
_MESSAGES = f"""
select {MESSAGE_COLUMNS} from chat_message
where session_id = $1 and id > $3 order by id limit $2
"""  # noqa: S608

_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_LAST_ID = UUID(int=(1 << 128) - 1)
_FIRST_ID = UUID(int=0)


class SqlSessions:
    """Sessions on one connection, within its transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, session: ChatSession) -> None:
        await self._connection.execute(
            _ADD,
            session.id,
            session.user_id,
            session.name,
            session.provider,
            session.system_prompt,
            session.created_at,
            session.updated_at,
        )

    async def get(self, session_id: SessionId, user_id: UserId) -> ChatSession | None:
        row = await self._connection.fetchrow(_GET, session_id, user_id)
        return session_from_row(row) if row else None

    async def list(
        self, user_id: UserId, *, most: int, before: tuple[datetime, SessionId] | None
    ) -> Sequence[ChatSession]:
        at, id_ = before or (_END_OF_TIME, SessionId(_LAST_ID))
        rows = await self._connection.fetch(_LIST, user_id, most, at, id_)
        return [session_from_row(row) for row in rows]

    async def of_user(
        self, user_id: UserId, *, after: SessionId | None, most: int
    ) -> Sequence[ChatSession]:
        rows = await self._connection.fetch(_OF_USER, user_id, after or _FIRST_ID, most)
        return [session_from_row(row) for row in rows]

    async def save(self, session: ChatSession) -> None:
        await self._connection.execute(
            _SAVE,
            session.id,
            session.user_id,
            session.name,
            session.provider,
            session.system_prompt,
            session.updated_at,
        )

    async def delete(self, session_id: SessionId, user_id: UserId) -> bool:
        tag: str = await self._connection.execute(_DELETE, session_id, user_id)
        return tag.endswith(" 1")

    async def messages(
        self, session_id: SessionId, *, most: int, after: MessageId | None
    ) -> Sequence[Message]:
        rows = await self._connection.fetch(_MESSAGES, session_id, most, after or _FIRST_ID)
        return [message_from_row(row) for row in rows]


def session_from_row(row: Row) -> ChatSession:
    return ChatSession(
        id=SessionId(row["id"]),
        user_id=UserId(row["user_id"]),
        name=row["name"],
        provider=row["provider"],
        system_prompt=row["system_prompt"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def message_from_row(row: Row) -> Message:
    return Message(
        id=MessageId(row["id"]),
        session_id=SessionId(row["session_id"]),
        role=Role(row["role"]),
        content=row["content"],
        status=MessageStatus(row["status"]),
        created_at=row["created_at"],
        provider=row["provider"],
        model=row["model"],
        usage=row["usage"],
        cost_microusd=row["cost_microusd"],
        processing_time_ms=row["processing_time_ms"],
    )
