"""Chat sessions and messages in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from services.chat.domain.content import Role
from services.chat.domain.conversation import (
    ChatSession,
    Message,
    MessageId,
    MessageStatus,
    SessionId,
)
from services.chat.domain.search import EXCERPT_CHARACTERS, Found, Terms
from services.chat.domain.turn import Outcome, TurnId, TurnRecord
from services.chat.storage.extras import from_extras
from shared.db.database import Connection, Row
from shared.ids import UserId

_COLUMNS = "id, user_id, name, provider, system_prompt, created_at, updated_at"

_ADD = f"insert into chat_session ({_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7)"  # noqa: S608
_GET = f"select {_COLUMNS} from chat_session where id = $1 and user_id = $2"  # noqa: S608
_LIST = f"""
select {_COLUMNS} from chat_session
where user_id = $1 and (updated_at, id) < ($3, $4) and ($5::text is null or provider = $5)
order by updated_at desc, id desc limit $2
"""  # noqa: S608
# What is looked through at once: so a search costs what this user has written, and never all of it.
_PLACES = """
select id, updated_at from chat_session
where user_id = $1 and (updated_at, id) < ($2, $3) and ($4::text is null or provider = $4)
order by updated_at desc, id desc limit $5
"""
_SEARCH = f"""
select {", ".join("s." + name.strip() for name in _COLUMNS.split(","))},
       m.message_id, m.role, m.excerpt
from chat_session s left join lateral (
    select id as message_id, role,
           substr(content, greatest(1, strpos(lower(content), lower($4)) - 100), $5) as excerpt
    from chat_message
    where session_id = s.id and active and content ilike all($3::text[])
    order by id desc limit 1
) m on true
where s.id = any($1) and (s.name ilike all($3::text[]) or m.message_id is not null)
order by s.updated_at desc, s.id desc limit $2
"""  # noqa: S608
# Ids are made in time's order.
_OF_USER = f"""
select {_COLUMNS} from chat_session where user_id = $1 and id > $2 order by id limit $3
"""  # noqa: S608
_TURNS = """
select id, session_id, surface, provider, model, tier, outcome, request_id, provider_request_id,
    output_characters, cost_microusd, idempotency_key, stored_answer, created_at, settled_at
from generation where user_id = $1 and id > $2 order by id limit $3
"""
_SAVE = """
update chat_session set name = $3, provider = $4, system_prompt = $5, updated_at = $6
where id = $1 and user_id = $2
"""
_DELETE = "delete from chat_session where id = $1 and user_id = $2"

MESSAGE_COLUMNS = """
id, session_id, role, content, status, created_at, provider, model, usage, cost_microusd,
processing_time_ms, finish_reason, parent_id, active, extras
"""
_MESSAGES = f"""
select {MESSAGE_COLUMNS} from chat_message
where session_id = $1 and id > $3 and (active or $4) order by id limit $2
"""  # noqa: S608

_LOCK = "select id from chat_session where id = $1 and user_id = $2 for update"
_RUNNING = "select id from generation where session_id = $1 and state = 'running'"
_PARENTS = "select id, parent_id from chat_message where session_id = $1"
# The session's row becomes a new one, by which a hold that waits for it knows of the change.
_ACTIVATE = """
with touched as (update chat_session set updated_at = updated_at where id = $1)
update chat_message set active = not active
where session_id = $1 and active <> (id = any($2))
"""
_IMAGE = "select content from chat_attachment where id = $1"

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
        self,
        user_id: UserId,
        *,
        most: int,
        before: tuple[datetime, SessionId] | None,
        provider: str | None = None,
    ) -> Sequence[ChatSession]:
        at, id_ = before or (_END_OF_TIME, SessionId(_LAST_ID))
        rows = await self._connection.fetch(_LIST, user_id, most, at, id_, provider)
        return [session_from_row(row) for row in rows]

    async def places(
        self,
        user_id: UserId,
        *,
        most: int,
        before: tuple[datetime, SessionId] | None,
        provider: str | None,
    ) -> Sequence[tuple[datetime, SessionId]]:
        at, id_ = before or (_END_OF_TIME, SessionId(_LAST_ID))
        rows = await self._connection.fetch(_PLACES, user_id, at, id_, provider, most)
        return [(row["updated_at"], SessionId(row["id"])) for row in rows]

    async def search(
        self, session_ids: Sequence[SessionId], terms: Terms, *, most: int
    ) -> Sequence[Found]:
        rows = await self._connection.fetch(
            _SEARCH, session_ids, most, terms.patterns, terms.first, EXCERPT_CHARACTERS
        )
        return [_found_from_row(row, terms) for row in rows]

    async def of_user(
        self, user_id: UserId, *, after: SessionId | None, most: int
    ) -> Sequence[ChatSession]:
        rows = await self._connection.fetch(_OF_USER, user_id, after or _FIRST_ID, most)
        return [session_from_row(row) for row in rows]

    async def turns_of(
        self, user_id: UserId, *, after: TurnId | None, most: int
    ) -> Sequence[TurnRecord]:
        rows = await self._connection.fetch(_TURNS, user_id, after or _FIRST_ID, most)
        return [_turn_from_row(row) for row in rows]

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
        self,
        session_id: SessionId,
        *,
        most: int,
        after: MessageId | None,
        every_branch: bool = False,
    ) -> Sequence[Message]:
        rows = await self._connection.fetch(
            _MESSAGES, session_id, most, after or _FIRST_ID, every_branch
        )
        return [message_from_row(row) for row in rows]

    async def lock(self, session_id: SessionId, user_id: UserId) -> bool:
        return await self._connection.fetchrow(_LOCK, session_id, user_id) is not None

    async def running_turn(self, session_id: SessionId) -> TurnId | None:
        row = await self._connection.fetchrow(_RUNNING, session_id)
        return TurnId(row["id"]) if row else None

    async def parents(self, session_id: SessionId) -> Mapping[MessageId, MessageId | None]:
        rows = await self._connection.fetch(_PARENTS, session_id)
        return {
            MessageId(row["id"]): MessageId(row["parent_id"]) if row["parent_id"] else None
            for row in rows
        }

    async def activate(self, session_id: SessionId, branch: Collection[MessageId]) -> None:
        await self._connection.execute(_ACTIVATE, session_id, list(branch))

    async def image(self, attachment_id: UUID) -> bytes | None:
        row = await self._connection.fetchrow(_IMAGE, attachment_id)
        return row["content"] if row else None


def _found_from_row(row: Row, terms: Terms) -> Found:
    snippet = None
    if row["message_id"] is not None:
        snippet = terms.snippet(MessageId(row["message_id"]), Role(row["role"]), row["excerpt"])
    return Found(session_from_row(row), snippet)


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
    extras = from_extras(row["extras"])
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
        finish_reason=row["finish_reason"],
        parent_id=MessageId(row["parent_id"]) if row["parent_id"] else None,
        active=row["active"],
        tool_calls=extras.tool_calls,
        tool_results=extras.tool_results,
        thoughts=extras.thoughts,
        attachments=extras.attachments,
        safety_ratings=extras.safety_ratings,
    )


def _turn_from_row(row: Row) -> TurnRecord:
    return TurnRecord(
        id=TurnId(row["id"]),
        session_id=None if row["session_id"] is None else SessionId(row["session_id"]),
        surface=row["surface"],
        provider=row["provider"],
        model=row["model"],
        tier=row["tier"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
        request_id=row["request_id"],
        provider_request_id=row["provider_request_id"],
        output_characters=row["output_characters"],
        cost_microusd=row["cost_microusd"],
        idempotency_key=row["idempotency_key"],
        kept_answer=row["stored_answer"],
        created_at=row["created_at"],
        settled_at=row["settled_at"],
    )
