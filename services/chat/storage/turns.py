"""The hot path's statements: one round trip each, and every promise inside the statement.

`hold` writes the question only with its hold; `settle` writes answer, usage event and the closed
hold together, and only for the one who closes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from services.chat.domain.conversation import MessageId, Role, SessionId, Utterance
from services.chat.domain.ports import Beginning, EarlierTurn
from services.chat.domain.turn import Hold, Orphan, Settlement, TurnId
from services.chat.storage.sessions import MESSAGE_COLUMNS, message_from_row, session_from_row
from shared.db.database import Database, Row
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import EventId, UserId

_HISTORY_MESSAGES = 60

_BEGIN = """
select s.id, s.user_id, s.name, s.provider, s.system_prompt, s.created_at, s.updated_at,
       h.roles, h.contents
from chat_session s, lateral (
    select array_agg(role order by id) as roles, array_agg(content order by id) as contents
    from (
        select id, role, content from chat_message
        where session_id = s.id and status = 'done'
        order by id desc limit $3
    ) newest
) h
where s.id = $1 and s.user_id = $2
"""

_HOLD = """
with session as (
    update chat_session set updated_at = $13 where id = $3 and user_id = $2 returning id
), held as (
    insert into generation (
        id, user_id, session_id, question_id, answer_id, usage_event_id, request_id, tier,
        provider, model, sandbox, input_estimate, state, idempotency_key, request_hash,
        created_at, lease_expires_at
    )
    select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'running', $15, $16, $13, $14
    from session
    on conflict (user_id, idempotency_key) where idempotency_key is not null do nothing
    returning question_id
)
insert into chat_message (id, session_id, role, content, status, created_at)
select question_id, $3, 'user', $17, 'pending', $13 from held
returning id
"""

# The answer needs its session, which may be gone by now; the usage does not.
_SETTLE = """
with closed as (
    update generation set
        state = 'settled', outcome = $2, settled_at = now(), model = $5,
        provider_request_id = $8, output_characters = length($4),
        -- What was refused cost nothing: the same key may try again.
        idempotency_key = case when $2 = 'refused' then null else idempotency_key end
    where id = $1 and state = 'running'
    returning session_id, question_id, answer_id, provider
), session as (
    select s.id from chat_session s join closed c on c.session_id = s.id for key share
), question as (
    update chat_message m set status = case when $3 = 'done' then 'done' else 'pending' end
    from closed c where m.id = c.question_id
), answer as (
    insert into chat_message (
        id, session_id, role, content, status, provider, model, usage, cost_microusd,
        price_version, processing_time_ms, created_at
    )
    select c.answer_id, s.id, 'assistant', $4, $3, c.provider, $5, $6, $7, $9, $10, now()
    from closed c join session s on s.id = c.session_id
    where $2 <> 'refused'
), told as (
    insert into outbox (event_id, stream, envelope, created_at)
    select $11, $12, $13, now() from closed where $11::uuid is not null
)
select answer_id from closed
"""

_RENEW = """
update generation g set
    lease_expires_at = $4, output_characters = n.characters,
    provider_request_id = n.provider_request_id
from unnest($1::uuid[], $2::int[], $3::text[]) as n (id, characters, provider_request_id)
where g.id = n.id and g.state = 'running'
"""

_ORPHANS = """
select * from generation
where state = 'running' and lease_expires_at < $1
order by lease_expires_at limit $2
"""

_EARLIER = f"""
select g.request_hash, g.state = 'settled' as settled, g.outcome, m.*
from generation g left join (select {MESSAGE_COLUMNS} from chat_message) m on m.id = g.answer_id
where g.user_id = $1 and g.idempotency_key = $2
"""  # noqa: S608


class SqlTurns:
    """Turns in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, session_id: SessionId, user_id: UserId) -> Beginning | None:
        row = await self._database.fetchrow(_BEGIN, session_id, user_id, _HISTORY_MESSAGES)
        if row is None:
            return None
        said = zip(row["roles"] or (), row["contents"] or (), strict=True)
        history = [Utterance(Role(role), content) for role, content in said]
        return Beginning(session_from_row(row), history)

    async def hold(self, hold: Hold, question: str, *, sandbox: bool) -> bool:
        row = await self._database.fetchrow(
            _HOLD,
            hold.id,
            hold.user_id,
            hold.session_id,
            hold.question_id,
            hold.answer_id,
            hold.usage_event_id,
            hold.request_id,
            hold.tier,
            hold.provider,
            hold.model,
            sandbox,
            hold.input_estimate,
            hold.created_at,
            hold.lease_expires_at,
            hold.idempotency_key,
            hold.request_hash,
            question,
        )
        return row is not None

    async def settle(
        self, hold: Hold, settlement: Settlement, usage: Fact[UsageRecorded] | None
    ) -> bool:
        row = await self._database.fetchrow(
            _SETTLE,
            hold.id,
            settlement.outcome.value,
            settlement.outcome.answer_status.value,
            settlement.text,
            settlement.model,
            settlement.usage.to_record(),
            settlement.cost_microusd,
            settlement.provider_request_id,
            settlement.price_version,
            settlement.processing_time_ms,
            usage.id if usage else None,
            usage.stream if usage else None,
            usage.to_wire() if usage else None,
        )
        return row is not None

    async def renew(
        self, progress: Mapping[TurnId, tuple[int, str | None]], until: datetime
    ) -> None:
        await self._database.execute(
            _RENEW,
            list(progress),
            [characters for characters, _ in progress.values()],
            [vendor_id for _, vendor_id in progress.values()],
            until,
        )

    async def orphans(self, now: datetime, *, most: int) -> Sequence[Orphan]:
        rows = await self._database.fetch(_ORPHANS, now, most)
        return [_orphan_from_row(row) for row in rows]

    async def earlier(self, user_id: UserId, idempotency_key: str) -> EarlierTurn | None:
        row = await self._database.fetchrow(_EARLIER, user_id, idempotency_key)
        if row is None:
            return None
        return EarlierTurn(
            request_hash=bytes(row["request_hash"]),
            settled=row["settled"],
            outcome=row["outcome"],
            answer=message_from_row(row) if row["id"] is not None else None,
        )


def _orphan_from_row(row: Row) -> Orphan:
    hold = Hold(
        id=TurnId(row["id"]),
        user_id=UserId(row["user_id"]),
        session_id=SessionId(row["session_id"]),
        question_id=MessageId(row["question_id"]),
        answer_id=MessageId(row["answer_id"]),
        usage_event_id=EventId(row["usage_event_id"]),
        request_id=row["request_id"],
        tier=row["tier"],
        provider=row["provider"],
        model=row["model"],
        input_estimate=row["input_estimate"],
        created_at=row["created_at"],
        lease_expires_at=row["lease_expires_at"],
    )
    return Orphan(
        hold=hold,
        output_characters=row["output_characters"],
        provider_request_id=row["provider_request_id"],
        sandbox=row["sandbox"],
    )
