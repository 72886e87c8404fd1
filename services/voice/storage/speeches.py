"""Speeches in PostgreSQL: one round trip each, and every promise inside the statement."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from services.voice.domain.ports import EarlierSpeech
from services.voice.domain.speech import Hold, Settlement, SpeechId
from shared.db.database import Database, Row
from shared.db.forgotten import erased
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import EventId, UserId

PATIENCE_SECONDS = 3.0

_HOLD = """
insert into speech (
    id, user_id, usage_event_id, request_id, tier, provider, voice_id, model, format, characters,
    sandbox, state, idempotency_key, request_hash, created_at, lease_expires_at, asked_characters,
    cached, session_id
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'running', $12, $13, $14, $15, $16, $17, $18)
on conflict (user_id, idempotency_key) where idempotency_key is not null do nothing
returning id
"""

# The guard on the state makes one of all settlements the first; its event leaves with it or not
# at all. What cost nothing gives its key free, also where it turned out late to be one that was
# said before.
_SETTLE = """
with closed as (
    update speech set
        state = 'settled', outcome = $2, settled_at = now(), charged_characters = $3,
        source = $4, provider_request_id = $5,
        idempotency_key = case when $3::int > 0 then idempotency_key end,
        request_hash = case when $3::int > 0 then request_hash end
    where id = $1 and state = 'running'
    returning id
), told as (
    insert into outbox (event_id, stream, envelope, created_at)
    select $6, $7, $8, now() from closed where $6::uuid is not null
)
select id from closed
"""

# All that is asked for is what a speech comes to, and that needs no second number.
_ASK = """
update speech set asked_characters = nullif($2, characters), format = $3
where id = $1 and state = 'running' returning id
"""

_GROW = """
update speech set characters = $2 where id = $1 and state = 'running' returning id
"""

# Whoever is renewed is not doubted any more: by the clock of who doubts, which may be ahead, the
# new lease may have run out already.
_RENEW = """
update speech set lease_expires_at = $2, doubted_at = null
where id = any($1::uuid[]) and state = 'running'
"""

# A lease that ran out is doubted first. When the database was away for longer than leases last, all
# have run out, and those whose replicas live are renewed a moment later; one that is locked is
# being renewed.
_ORPHANS = """
with doubted as (
    update speech set doubted_at = $1 where id in (
        select id from speech
        where state = 'running' and lease_expires_at < $1
            and (doubted_at is null or doubted_at < lease_expires_at)
        for update skip locked
    )
)
select * from speech
where state = 'running' and lease_expires_at < $1
    and doubted_at >= lease_expires_at and doubted_at <= $2
order by lease_expires_at limit $3
"""

_EARLIER = """
select id, request_hash, format, outcome from speech
where user_id = $1 and idempotency_key = $2
"""

# What has a key has an index of its own, in which there is one day.
_FORGET_KEYS = """
update speech set idempotency_key = null, request_hash = null
where id in (
    select id from speech
    where idempotency_key is not null and created_at < $1 and state = 'settled'
    limit $2 for update skip locked
)
"""

# Also of the engine on our own machine, whose characters are those of the tier as well.
_CHARGED = """
select coalesce(sum(charged_characters), 0)::bigint as charged from speech
where user_id = $1 and created_at >= $2
"""


class SqlSpeeches:
    """Speeches in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hold(self, hold: Hold) -> bool:
        row = await self._database.fetchrow(
            _HOLD,
            hold.id,
            hold.user_id,
            hold.usage_event_id,
            hold.request_id,
            hold.tier,
            hold.provider,
            hold.voice_id,
            hold.model,
            hold.format,
            hold.characters,
            hold.sandbox,
            hold.idempotency_key,
            hold.request_hash,
            hold.created_at,
            hold.lease_expires_at,
            hold.asked_characters,
            hold.cached,
            hold.session_id,
        )
        return row is not None

    async def ask(self, speech_id: SpeechId, characters: int, format_: str) -> bool:
        row = await self._database.fetchrow(_ASK, speech_id, characters, format_)
        return row is not None

    async def grow(self, speech_id: SpeechId, characters: int) -> bool:
        return await self._database.fetchrow(_GROW, speech_id, characters) is not None

    async def settle(
        self, speech_id: SpeechId, settlement: Settlement, usage: Fact[UsageRecorded] | None
    ) -> bool:
        used = settlement.used
        row = await self._database.fetchrow(
            _SETTLE,
            speech_id,
            settlement.outcome.value,
            used.characters if used else None,
            used.source if used else None,
            settlement.provider_request_id,
            usage.id if usage else None,
            usage.stream if usage else None,
            usage.to_wire() if usage else None,
        )
        await self._database.wake_relay()
        return row is not None

    async def renew(self, ids: Collection[SpeechId], until: datetime) -> None:
        # Soon tried again, which the sweeper waits for.
        await self._database.execute(_RENEW, list(ids), until, within_seconds=PATIENCE_SECONDS)

    async def orphans(self, now: datetime, *, doubted_by: datetime, most: int) -> Sequence[Hold]:
        rows = await self._database.fetch(_ORPHANS, now, doubted_by, most)
        return [_hold_from_row(row) for row in rows]

    async def earlier(self, user_id: UserId, idempotency_key: str) -> EarlierSpeech | None:
        row = await self._database.fetchrow(_EARLIER, user_id, idempotency_key)
        if row is None:
            return None
        return EarlierSpeech(
            id=SpeechId(row["id"]),
            request_hash=bytes(row["request_hash"]),
            format=row["format"],
            outcome=row["outcome"],
        )

    async def forget_keys(self, before: datetime, *, most: int) -> int:
        return erased(await self._database.execute(_FORGET_KEYS, before, most))

    async def charged_since(self, user_id: UserId, since: datetime) -> int:
        """How many characters the user was charged for speeches that began then or later."""
        row = await self._database.fetchrow(_CHARGED, user_id, since)
        assert row is not None
        return int(row["charged"])


def _hold_from_row(row: Row) -> Hold:
    return Hold(
        id=SpeechId(row["id"]),
        user_id=UserId(row["user_id"]),
        usage_event_id=EventId(row["usage_event_id"]),
        request_id=row["request_id"],
        tier=row["tier"],
        provider=row["provider"],
        voice_id=row["voice_id"],
        model=row["model"],
        format=row["format"],
        characters=row["characters"],
        asked_characters=row["asked_characters"],
        sandbox=row["sandbox"],
        cached=row["cached"],
        idempotency_key=row["idempotency_key"],
        request_hash=row["request_hash"],
        session_id=row["session_id"],
        created_at=row["created_at"],
        lease_expires_at=row["lease_expires_at"],
    )
