"""What a turn begins with, in one statement: its session, what was said before, and the cap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from services.chat.domain.content import Role
from services.chat.domain.conversation import MessageId, SessionId
from services.chat.domain.ports import AskedBefore, Beginning
from services.chat.domain.token_count import MOST_BYTES_PER_TOKEN
from services.chat.storage.extras import from_extras
from services.chat.storage.history import Said, images_of, utterances_of
from services.chat.storage.sessions import session_from_row
from shared.db.database import Database, Row
from shared.ids import UserId
from shared.values import dataclass

_HISTORY_MESSAGES = 100
# Of an exchange that is longer than what is read, so that vendors see what its calls were for; and
# more than any context holds.
_EXCHANGE_MESSAGES = 10_000
_EXCHANGE_BYTES = 8 << 20
_USER, _TOOL = Role.USER.value, Role.TOOL.value
# A database that stalls is told to whoever asks before they lose patience.
PATIENCE_SECONDS = 3.0

# Of the newest, as many as a window could hold; the one that goes beyond it is among them. No
# vendor is told its ratings again, and messages with nothing beside their text are read faster.
_NEWEST = """
    select array_agg(role order by position desc) as roles,
           array_agg(content order by position desc) as contents,
           array_agg(nullif(extras - 'safety_ratings', '{{}}') order by position desc) as extras
    from (
        select *, sum(octet_length(content)) over (order by position) - octet_length(content)
            as newer_bytes
        from ({messages}) numbered
    ) newest
    where newer_bytes <= {bytes}
"""

# A question may have a whole answer, and another one that was interrupted on the branch that is
# shown: then nothing of it is said again here.
_WHOLE = "status = 'done' and (role = 'assistant' or answer is distinct from 'interrupted')"
_ACTIVE = f"""
    select position, role, content, extras
    from (
        select id, row_number() over newest as position, lag(status) over newest as answer,
            role, content, extras, status
        from chat_message where session_id = s.id and status <> 'pending' and active
        window newest as (order by id desc)
    ) shown
    where {_WHOLE}
    order by id desc limit $3
"""  # noqa: S608 - built from constants
_TIP = """
       (select id from chat_message where session_id = s.id and active order by id desc limit 1)
           as tip_id"""
_BEGIN_WITH = """
select s.id, s.user_id, s.name, s.provider, s.system_prompt, s.created_at, s.updated_at,
       p.monthly_cap_microusd, h.roles, h.contents, h.extras,{tip}
from chat_session s left join preference p on p.user_id = s.user_id, lateral (
    {newest}
) h
where s.id = $1 and s.user_id = $2
"""
_BEGIN = _BEGIN_WITH.format(newest=_NEWEST.format(messages=_ACTIVE, bytes="$4"), tip=_TIP)
# More is read where the session is with one of some providers. That is a statement of its own,
# since for all others this one is the hottest that there is.
_BY_PROVIDER = (
    "case when s.provider = any({providers}::text[]) then {more}::bigint else {usual} end"
)
_BEGIN_LONG = _BEGIN_WITH.format(
    newest=_NEWEST.format(
        messages=_ACTIVE,
        bytes=_BY_PROVIDER.format(usual="$4::bigint", more="$5", providers="$6"),
    ),
    tip=_TIP,
)

# Only of the newest exchange: bytes are counted of texts, and what tools have answered in those
# before is none.
_OF_THE_EXCHANGE = """
    select * from (
        select *, count(*) filter (
            where role = 'user' or (role = 'tool' and octet_length(content) > 0)
        ) over (order by position rows between unbounded preceding and 1 preceding)
            as newer_questions
        from ({messages}) said
    ) of_exchanges
    where newer_questions = 0
"""
_BEGIN_EXCHANGE = _BEGIN_WITH.format(
    newest=_NEWEST.format(messages=_OF_THE_EXCHANGE.format(messages=_ACTIVE), bytes="$4"),
    tip=_TIP,
)

# The question that a message is or answers, and what was said before it.
_PATH = f"""
    select * from (select *, lag(status) over (order by position) as answer from path) line
    where {_WHOLE}
"""  # noqa: S608 - built from constants
_BEFORE = _NEWEST.format(
    messages=_PATH,
    bytes=_BY_PROVIDER.format(usual="$5::bigint", more="$6", providers="$7"),
)
_BEGIN_AT_WITH = """
with recursive question as (
    select q.id, q.role, q.content, q.extras, q.parent_id
    from chat_message m
    join chat_message q on q.id = case when m.role = 'assistant' then m.parent_id else m.id end
    where m.id = $3 and m.session_id = $1 and q.session_id = $1
), path as (
    select m.*, 1 as position from chat_message m join question q on m.id = q.parent_id
    union all
    select m.*, p.position + 1 from chat_message m join path p on m.id = p.parent_id
    where p.position < $4
)
select s.id, s.user_id, s.name, s.provider, s.system_prompt, s.created_at, s.updated_at,
       p.monthly_cap_microusd, h.roles, h.contents, h.extras,
       q.id as question_id, q.role as question_role, q.content as question_content,
       q.extras as question_extras, q.parent_id as question_parent_id,{tip}
from chat_session s
left join preference p on p.user_id = s.user_id
left join question q on true
cross join lateral ({before}) h
where s.id = $1 and s.user_id = $2
"""
_BEGIN_AT = _BEGIN_AT_WITH.format(before=_BEFORE, tip=_TIP)
_BEGIN_EXCHANGE_AT = _BEGIN_AT_WITH.format(
    before=_NEWEST.format(messages=_OF_THE_EXCHANGE.format(messages=_PATH), bytes="$5"), tip=_TIP
)


@dataclass(frozen=True, slots=True)
class Memory:
    """How much of what was said is read for a turn."""

    history_bytes: int = 120_000
    image_bytes: int = 20 << 20

    @classmethod
    def for_tokens(cls, history_tokens: int) -> Memory:
        """Enough for a window of so many tokens."""
        return cls(history_bytes=history_tokens * MOST_BYTES_PER_TOKEN)

    def bytes_for(
        self, provider: str | None, long: Mapping[str, int]
    ) -> tuple[int, int, list[str]]:
        """How many are read, and how many if the session is with one of these providers."""
        if provider is not None or not long:
            usual = self._at_least(long.get(provider or "", 0))
            return usual, usual, []
        return self.history_bytes, self._at_least(max(long.values())), list(long)

    def _at_least(self, tokens: int) -> int:
        return max(self.history_bytes, tokens * MOST_BYTES_PER_TOKEN)


class Beginnings:
    """The part of `SqlTurns` that reads what a turn begins with."""

    def __init__(self, database: Database, memory: Memory | None = None) -> None:
        self._database = database
        self._memory = memory or Memory()

    async def begin(
        self,
        session_id: SessionId,
        user_id: UserId,
        *,
        provider: str | None = None,
        long: Mapping[str, int] | None = None,
    ) -> Beginning | None:
        usual, more, providers = self._memory.bytes_for(provider, long or {})
        row = await self._database.fetchrow(
            _BEGIN_LONG if providers else _BEGIN,
            session_id,
            user_id,
            _HISTORY_MESSAGES,
            usual,
            *((more, providers) if providers else ()),
            within_seconds=PATIENCE_SECONDS,
        )
        if row is not None and _has_called(row) and _lacks_its_question(row):
            row = await self._database.fetchrow(
                _BEGIN_EXCHANGE,
                session_id,
                user_id,
                _EXCHANGE_MESSAGES,
                _EXCHANGE_BYTES,
                within_seconds=PATIENCE_SECONDS,
            )
        return await self._beginning(row) if row is not None else None

    async def begin_at(
        self,
        session_id: SessionId,
        user_id: UserId,
        message_id: MessageId,
        *,
        provider: str | None = None,
        long: Mapping[str, int] | None = None,
    ) -> Beginning | None:
        at = (session_id, user_id, message_id)
        row = await self._database.fetchrow(
            _BEGIN_AT, *at, _HISTORY_MESSAGES, *self._memory.bytes_for(provider, long or {})
        )
        if row is not None and row["question_role"] == _TOOL and _lacks_its_question(row):
            row = await self._database.fetchrow(
                _BEGIN_EXCHANGE_AT, *at, _EXCHANGE_MESSAGES, _EXCHANGE_BYTES
            )
        if row is None:
            return None
        beginning = await self._beginning(row)
        if row["question_id"] is None:
            return beginning
        extras = from_extras(row["question_extras"])
        asked = AskedBefore(
            # The driver's own kind of UUID is none that an event can be written with.
            id=MessageId(UUID(int=row["question_id"].int)),
            role=Role(row["question_role"]),
            content=row["question_content"],
            tool_results=extras.tool_results,
            images=await images_of(extras, self._database),
            parent_id=_message_id(row["question_parent_id"]),
        )
        return replace(beginning, asked_before=asked)

    async def _beginning(self, row: Row) -> Beginning:
        columns = (row["roles"] or (), row["contents"] or (), row["extras"] or ())
        said = [Said(*one) for one in zip(*columns, strict=True)]
        history = await utterances_of(said, self._database, image_bytes=self._memory.image_bytes)
        return Beginning(
            session_from_row(row),
            history,
            row["monthly_cap_microusd"],
            tip_id=_message_id(row["tip_id"]),
        )


def _has_called(row: Row) -> bool:
    """Whether tools' results may come next, which go on with an exchange."""
    extras = row["extras"]
    return bool(extras and extras[-1]) and "tool_calls" in extras[-1]


def _lacks_its_question(row: Row) -> bool:
    """Whether the newest exchange began before what was read."""
    roles = row["roles"]
    if not roles or _USER in roles:
        return False
    # Words beside a tool's results are a question, too.
    pairs = zip(roles, row["contents"], strict=True)
    return not any(role == _TOOL and content for role, content in pairs)


def _message_id(found: UUID | None) -> MessageId | None:
    return MessageId(found) if found else None
