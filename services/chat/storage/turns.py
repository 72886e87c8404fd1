"""The hot path's statements: one round trip each, and every promise inside the statement.

`hold` writes the question only with its hold; `settle` writes answer, usage event and the closed
hold together, and only for the one who closes it. Those of several turns that come at the same time
share a transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from services.chat.domain.content import ImagePart, Role
from services.chat.domain.conversation import (
    DEFAULT_NAME,
    Attachment,
    Message,
    MessageId,
    SessionId,
)
from services.chat.domain.errors import BranchMoved, SessionNotFound, TurnRunning
from services.chat.domain.ports import Asked, EarlierTurn, Standing
from services.chat.domain.turn import Hold, Orphan, Settlement, Surface, TurnId
from services.chat.storage.beginnings import PATIENCE_SECONDS, Beginnings, Memory
from services.chat.storage.extras import to_extras
from services.chat.storage.sessions import MESSAGE_COLUMNS, message_from_row
from shared.db.database import Database, Row
from shared.db.together import Together
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import EventId, UserId, first_id_at, uuid7

_Values: TypeAlias = tuple[Any, ...]

# Of several in one transaction none may keep the others waiting for a lock that somebody else has,
# nor may two such transactions wait for each other: after this long it ends, and each goes alone.
_BRIEFLY = " and (select set_config('lock_timeout', '10ms', true)) is not null"
# What is longer takes its time, and goes alone.
_MOST_CHARACTERS = 20_000

# A branch is its last message with all before it. The other messages of the session are inactive.
_PATH = """
    select id, parent_id from chat_message where id = {tip}
    union all
    select m.id, m.parent_id from chat_message m join path p on m.id = p.parent_id
"""

# Without a text nothing new is asked: an earlier question is answered again. Of one session one
# turn runs at a time, as the index says. And whoever sees one running is refused, although it may
# end while the index is waited for. A question follows the tip that its asker has seen, or nothing.
# What the statement sees is of its beginning: had the session's lock to be waited for, and is the
# session another one since, nothing is written, and the statement has to look again.
_HOLD = """
with {branch} session as (
    update chat_session set updated_at = $13,
        name = case when name = {no_name} then coalesce($22, name) else name end
    where id = $3 and user_id = $2 and xmin = (select xmin from chat_session where id = $3){briefly}
    returning id
), held as (
    insert into generation (
        id, user_id, session_id, question_id, answer_id, usage_event_id, request_id, tier,
        provider, model, sandbox, input_estimate, state, idempotency_key, request_hash,
        created_at, lease_expires_at, surface, previous_tip_id
    )
    select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'running', $15, $16, $13, $14, $17,
           {previous_tip}
    from session
    where not exists (select from generation where session_id = $3 and state = 'running'){follows}
    on conflict do nothing
    returning question_id
), question as (
    insert into chat_message (id, session_id, role, content, status, created_at, parent_id, extras)
    select question_id, $3, $19, $18, 'pending', $13, $20::uuid, $21
    from held where $18::text is not null
){attached}
select $1 as id, (select count(*) from session) as sessions, (select count(*) from held) as held
"""
_MOST_LOOKS = 5
_WHY_NOT = """
select exists (select from generation where session_id = s.id and state = 'running') as runs
from chat_session s where s.id = $1 and s.user_id = $2
"""
# Few questions have any; for all others three empty arrays are dear to send.
_ATTACHED = """, attached as (
    insert into chat_attachment (id, message_id, media_type, content)
    select a.id, h.question_id, a.media_type, a.content
    from held h, unnest($23::uuid[], $24::text[], $25::bytea[]) as a (id, media_type, content)
)"""
_TIP = "(select id from chat_message where session_id = $3 and active order by id desc limit 1)"
_NO_NAME = f"'{DEFAULT_NAME}'"
_NEXT = {
    "no_name": _NO_NAME,
    "branch": "",
    "previous_tip": "null",
    "follows": f" and {_TIP} is not distinct from $20::uuid",
}
_HOLD_NEXT = _HOLD.format(**_NEXT, attached="", briefly="")
_HOLD_EACH_NEXT = _HOLD.format(**_NEXT, attached="", briefly=_BRIEFLY)
_HOLD_NEXT_ATTACHED = _HOLD.format(**_NEXT, attached=_ATTACHED, briefly="")
# The question is the tip of another branch than before, which comes back if it gets no answer.
_TO_QUESTION = _PATH.format(tip="case when $18::text is null then $4::uuid else $20::uuid end")
_HOLD_BRANCH = _HOLD.format(
    no_name=_NO_NAME,
    branch=f"""recursive path as (
    {_TO_QUESTION}
), moved as (
    update chat_message m set active = not m.active from held
    where m.session_id = $3 and m.active <> (m.id in (select id from path))
), """,  # noqa: S608 - built from constants
    previous_tip=_TIP,
    follows="",
    attached=_ATTACHED,
    briefly="",
)

_HOLD_CALL = """
insert into generation (
    id, user_id, answer_id, usage_event_id, request_id, tier, provider, model, sandbox,
    input_estimate, state, created_at, lease_expires_at, idempotency_key, request_hash, surface
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'running', $11, $12, $13, $14, $15)
on conflict (user_id, idempotency_key) where idempotency_key is not null do nothing
returning id
"""

_REDIRECT = "update generation set provider = $2, model = $3 where id = $1 and state = 'running'"

# The answer needs its session, which may be gone by now; the usage does not.
_SETTLE = """
with {path} closed as (
    update generation set
        state = 'settled', outcome = $2, settled_at = now(), model = $5, provider = $12,
        provider_request_id = $8, output_characters = length($4), cost_microusd = $17,
        fallback_from = $14, stored_answer = $16,
        -- Where there is nothing to say again, the same key may try again.
        idempotency_key = case when $18::bool then idempotency_key end
    where id = $1 and state = 'running'{briefly}
    returning id, session_id, question_id, answer_id, previous_tip_id
), session as (
    select s.id from chat_session s join closed c on c.session_id = s.id for key share
), question as (
    update chat_message m set
        status = case when $3 = 'done' then 'done' else m.status end, active = {question_active}
    from closed c where m.id = c.question_id
    returning m.active
), answer as (
    insert into chat_message (
        id, session_id, role, content, status, provider, model, usage, cost_microusd,
        price_version, processing_time_ms, created_at, finish_reason, parent_id, active, extras
    )
    select c.answer_id, s.id, 'assistant', $4, $3, $12, $5, $6, $7, $9, $10,
           coalesce($19::timestamptz, now()), $13,
           c.question_id, {answer_active}, $15
    from closed c join session s on s.id = c.session_id
    where $2 <> 'refused'
), {restored} told as (
    insert into outbox (event_id, stream, envelope, created_at)
    select (f ->> 'id')::uuid, f ->> 'stream', f -> 'envelope', now()
    from closed, jsonb_array_elements($11::jsonb) f
)
select id from closed
"""
_ANSWERED = {
    "path": "",
    "question_active": "m.active",
    "answer_active": "coalesce((select active from question), true)",
    "restored": "",
}
_SETTLE_ANSWERED = _SETTLE.format(**_ANSWERED, briefly="")
_SETTLE_EACH_ANSWERED = _SETTLE.format(**_ANSWERED, briefly=_BRIEFLY)
# Nothing was answered: the branch of before, if the hold left one, is active again.
_TO_TIP = _PATH.format(tip="(select previous_tip_id from closed)")
_SETTLE_EMPTY = _SETTLE.format(
    path=f"recursive path as ({_TO_TIP}),",
    question_active="""
        case when c.previous_tip_id is null then m.active
             else m.id in (select id from path) end""",
    answer_active="c.previous_tip_id is null and coalesce((select active from question), true)",
    restored="""restored as (
    update chat_message m set active = not m.active from closed c
    where c.previous_tip_id is not null and m.session_id = c.session_id
        and m.id <> c.question_id and m.active <> (m.id in (select id from path))
),""",
    briefly="",
)

# Whoever is renewed is not doubted any more: by the clock of who doubts, which may be ahead, the
# new lease may have run out already.
_RENEW = """
update generation g set
    lease_expires_at = $4, doubted_at = null, output_characters = n.characters,
    provider_request_id = n.provider_request_id
from unnest($1::uuid[], $2::int[], $3::text[]) as n (id, characters, provider_request_id)
where g.id = n.id and g.state = 'running'
"""

# A lease that ran out is doubted first. When the database was away for longer than leases last, all
# have run out, and those whose replicas live are renewed a moment later; one that is locked is
# being renewed.
_ORPHANS = """
with doubted as (
    update generation set doubted_at = $1 where id in (
        select id from generation
        where state = 'running' and lease_expires_at < $1
            and (doubted_at is null or doubted_at < lease_expires_at)
        for update skip locked
    )
)
select * from generation
where state = 'running' and lease_expires_at < $1
    and doubted_at >= lease_expires_at and doubted_at <= $2
order by lease_expires_at limit $3
"""

_EARLIER = "select * from generation where user_id = $1 and idempotency_key = $2"
_ANSWER = f"select {MESSAGE_COLUMNS} from chat_message where id = $1"  # noqa: S608

_STANDING = """
select s.id as of_session, g.* from chat_session s left join lateral (
    select * from generation
    where session_id = s.id and ($3::uuid is null or id = $3)
    order by id desc limit 1
) g on true
where s.id = $1 and s.user_id = $2
"""
_OUTCOMES = "select * from generation where id = any($1::uuid[]) and state = 'settled'"

# A running turn keeps its key, however long it runs.
_FORGET_ANSWERS = """
update generation set idempotency_key = null, stored_answer = null
where id in (
    select id from generation
    where idempotency_key is not null and id < $1 and state = 'settled'
    order by id limit $2
)
"""

_CAP = "select monthly_cap_microusd from preference where user_id = $1"
_SPENT = """
select coalesce(sum(cost_microusd), 0)::bigint as spent from generation
where user_id = $1 and id >= $3 and created_at >= $2
"""


class SqlTurns(Beginnings):
    """Turns in PostgreSQL. Holds, and settlements, that come while others are under way go together
    where they are short, each judged by itself; see `Together`."""

    def __init__(self, database: Database, memory: Memory | None = None) -> None:
        super().__init__(database, memory)
        self._hold_next = Together(self._hold_one, self._hold_each)
        self._settle_answered = Together(self._settle_one, self._settle_each)

    async def hold(self, hold: Hold, question: Asked | None, *, sandbox: bool) -> bool:
        if hold.session_id is None:
            return await self._hold_call(hold, sandbox=sandbox)
        assert question is not None, "a session's turn has a question"
        images = () if question.answers_again else question.images
        attachments = [_attachment(image) for image in images]
        statement, attached = _hold_statement(question, attachments, images)
        values = (
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
            hold.surface.value,
            None if question.answers_again else question.content,
            (Role.TOOL if question.tool_results else Role.USER).value,
            question.parent_id,
            to_extras(tool_results=question.tool_results, attachments=attachments),
            question.session_name,
            *attached,
        )
        goes_along = statement is _HOLD_NEXT and _is_short(question)
        # Who gives a session another name moves nothing: then the next look finds all as it was.
        for _ in range(_MOST_LOOKS):
            if goes_along:
                row = await self._hold_next(values)
            else:
                row = await self._hold_by(statement, values)
            if row["held"]:
                return True
            if row["sessions"]:
                break
        return await self._not_held(hold, hold.session_id)

    async def _hold_by(self, statement: str, values: _Values) -> Row:
        row = await self._database.fetchrow(statement, *values, within_seconds=PATIENCE_SECONDS)
        assert row is not None
        return row

    async def _hold_one(self, values: _Values) -> Row:
        return await self._hold_by(_HOLD_NEXT, values)

    async def _hold_each(self, each: Sequence[_Values]) -> Sequence[Row]:
        # By session, in one order for all.
        rows = await self._database.fetch_each(
            _HOLD_EACH_NEXT,
            sorted(each, key=lambda values: values[2].int),
            within_seconds=PATIENCE_SECONDS,
        )
        by_id = {row["id"]: row for row in rows}
        return [by_id[values[0]] for values in each]

    async def _not_held(self, hold: Hold, session_id: SessionId) -> bool:
        key = hold.idempotency_key
        if key is not None and await self.earlier(hold.user_id, key) is not None:
            return False
        now = await self._database.fetchrow(_WHY_NOT, session_id, hold.user_id)
        if now is None:
            raise SessionNotFound(session_id)
        raise (TurnRunning if now["runs"] else BranchMoved)(session_id)

    async def _hold_call(self, hold: Hold, *, sandbox: bool) -> bool:
        row = await self._database.fetchrow(
            _HOLD_CALL,
            hold.id,
            hold.user_id,
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
            hold.surface.value,
            within_seconds=PATIENCE_SECONDS,
        )
        return row is not None

    async def redirect(self, turn_id: TurnId, *, provider: str, model: str) -> None:
        await self._database.execute(_REDIRECT, turn_id, provider, model)

    async def settle(
        self, hold: Hold, settlement: Settlement, facts: Sequence[Fact[UsageRecorded]]
    ) -> bool:
        values = (
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
            [
                {"id": str(fact.id), "stream": fact.stream, "envelope": fact.to_wire()}
                for fact in facts
            ],
            settlement.provider,
            settlement.finish_reason,
            settlement.fallback_from,
            to_extras(
                tool_calls=settlement.tool_calls,
                thoughts=settlement.thoughts,
                safety_ratings=settlement.safety_ratings,
            ),
            settlement.stored_answer,
            settlement.whole_cost_microusd,
            _can_be_repeated(hold, settlement),
            settlement.at,
        )
        if not settlement.has_content:
            was_open = await self._database.fetchrow(_SETTLE_EMPTY, *values) is not None
        elif _goes_along(settlement):
            was_open = await self._settle_answered(values)
        else:
            was_open = await self._settle_one(values)
        await self._database.wake_relay()
        return was_open

    async def _settle_one(self, values: _Values) -> bool:
        return await self._database.fetchrow(_SETTLE_ANSWERED, *values) is not None

    async def _settle_each(self, each: Sequence[_Values]) -> Sequence[bool]:
        rows = await self._database.fetch_each(
            _SETTLE_EACH_ANSWERED, sorted(each, key=lambda values: values[0].int)
        )
        closed = {row["id"] for row in rows}
        answers = []
        for hold_id, *_ in each:
            # Of two for the same hold the first has closed it.
            answers.append(hold_id in closed)
            closed.discard(hold_id)
        return answers

    async def answer_of(self, hold: Hold) -> Message | None:
        row = await self._database.fetchrow(_ANSWER, hold.answer_id)
        return message_from_row(row) if row is not None else None

    async def renew(
        self, progress: Mapping[TurnId, tuple[int, str | None]], until: datetime
    ) -> None:
        await self._database.execute(
            _RENEW,
            list(progress),
            [characters for characters, _ in progress.values()],
            [vendor_id for _, vendor_id in progress.values()],
            until,
            # Soon tried again, which the sweeper waits for.
            within_seconds=PATIENCE_SECONDS,
        )

    async def orphans(self, now: datetime, *, doubted_by: datetime, most: int) -> Sequence[Orphan]:
        rows = await self._database.fetch(_ORPHANS, now, doubted_by, most)
        return [_orphan_from_row(row) for row in rows]

    async def earlier(self, user_id: UserId, idempotency_key: str) -> EarlierTurn | None:
        row = await self._database.fetchrow(_EARLIER, user_id, idempotency_key)
        return await self._earlier(row) if row is not None else None

    async def standing(
        self, session_id: SessionId, user_id: UserId, turn_id: TurnId | None = None
    ) -> Standing | None:
        row = await self._database.fetchrow(_STANDING, session_id, user_id, turn_id)
        if row is None:
            return None
        if row["id"] is None:
            return Standing(None)
        return Standing(await self._earlier(row), row["settled_at"])

    async def outcomes(self, turn_ids: Collection[TurnId]) -> Sequence[EarlierTurn]:
        rows = await self._database.fetch(_OUTCOMES, list(turn_ids))
        return [await self._earlier(row) for row in rows]

    async def _earlier(self, row: Row) -> EarlierTurn:
        answer = None
        if row["session_id"] is not None and row["state"] == "settled":
            answer = await self._database.fetchrow(_ANSWER, row["answer_id"])
        return EarlierTurn(
            request_hash=bytes(row["request_hash"] or b""),
            settled=row["state"] == "settled",
            outcome=row["outcome"],
            answer=message_from_row(answer) if answer is not None else None,
            hold=_hold_from_row(row),
            stored_answer=row["stored_answer"],
            fallback_from=row["fallback_from"],
        )

    async def forget_answers(self, before: datetime, *, most: int) -> int:
        status = await self._database.execute(_FORGET_ANSWERS, first_id_at(before), most)
        return int(status.split()[-1])

    async def cap_of(self, user_id: UserId) -> int | None:
        row = await self._database.fetchrow(_CAP, user_id)
        return row["monthly_cap_microusd"] if row else None

    async def spent_since(self, user_id: UserId, since: datetime) -> int:
        # Ids are made in time's order, and have the index.
        row = await self._database.fetchrow(_SPENT, user_id, since, first_id_at(since))
        assert row is not None
        return int(row["spent"])


def _is_short(question: Asked) -> bool:
    has_more = question.tool_results or question.images
    return len(question.content) <= _MOST_CHARACTERS and not has_more


def _goes_along(settlement: Settlement) -> bool:
    is_short = len(settlement.text) <= _MOST_CHARACTERS
    has_more = settlement.tool_calls or settlement.thoughts
    return is_short and settlement.stored_answer is None and not has_more


def _can_be_repeated(hold: Hold, settlement: Settlement) -> bool:
    is_kept = hold.session_id is not None or settlement.stored_answer is not None
    return is_kept and settlement.can_be_repeated


def _hold_statement(
    question: Asked, attachments: Sequence[Attachment], images: Sequence[ImagePart]
) -> tuple[str, list[list[Any]]]:
    """The one for this question, and what it takes more than the others: ids, media types and
    bytes of the images that are kept."""
    kept = [
        (known.id, known.media_type, image.data)
        for known, image in zip(attachments, images, strict=True)
        if image.data is not None
    ]
    branches = question.branches or question.answers_again
    if not branches and not kept:
        return _HOLD_NEXT, []
    attached: list[list[Any]] = [
        [id_ for id_, _, _ in kept],
        [media_type for _, media_type, _ in kept],
        [data for _, _, data in kept],
    ]
    return _HOLD_BRANCH if branches else _HOLD_NEXT_ATTACHED, attached


def _attachment(image: ImagePart) -> Attachment:
    return Attachment(
        id=uuid7(),
        media_type=image.media_type,
        url=image.url,
        size_bytes=len(image.data) if image.data is not None else None,
    )


def _hold_from_row(row: Row) -> Hold:
    session_id, question_id = row["session_id"], row["question_id"]
    return Hold(
        id=TurnId(row["id"]),
        user_id=UserId(row["user_id"]),
        session_id=SessionId(session_id) if session_id else None,
        question_id=MessageId(question_id) if question_id else None,
        answer_id=MessageId(row["answer_id"]),
        usage_event_id=EventId(row["usage_event_id"]),
        request_id=row["request_id"],
        tier=row["tier"],
        provider=row["provider"],
        model=row["model"],
        input_estimate=row["input_estimate"],
        created_at=row["created_at"],
        lease_expires_at=row["lease_expires_at"],
        idempotency_key=row["idempotency_key"],
        request_hash=bytes(row["request_hash"]) if row["request_hash"] else None,
        surface=Surface(row["surface"]),
    )


def _orphan_from_row(row: Row) -> Orphan:
    return Orphan(
        hold=_hold_from_row(row),
        output_letters=row["output_characters"],
        provider_request_id=row["provider_request_id"],
        sandbox=row["sandbox"],
    )
