"""Voices that users had made, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from services.voice.domain.clone import Clone, CloneId, CloneState, MadeVoice
from services.voice.domain.voice import VoiceId
from shared.db.database import Connection, Row
from shared.db.forgotten import erased
from shared.ids import UserId

_BEGIN = """
insert into cloned_voice (
    id, user_id, tier, provider, name, sample_sha256s, consent_version, state,
    idempotency_key, request_hash, created_at
)
values ($1, $2, $3, $4, $5, $6, $7, 'making', $8, $9, $10)
on conflict (user_id, idempotency_key) where idempotency_key is not null do nothing
returning id
"""
_FINISH = """
update cloned_voice
set voice_id = $2, requires_verification = $3, organisation_id = $4, state = 'ready'
where id = $1 and state = 'making'
"""
_EARLIER = "select * from cloned_voice where user_id = $1 and idempotency_key = $2"
_OF = "select * from cloned_voice where user_id = $1 order by created_at, id"
_OF_ORGANISATION = "select * from cloned_voice where organisation_id = $1 order by created_at, id"
_HIDDEN = """
select voice_id from cloned_voice
where voice_id = any($2::text[]) and (user_id <> $1 or state = 'removing')
"""
# The key is free again: who asks for the voice once more gets a new one.
_BEGIN_REMOVAL = """
update cloned_voice set state = 'removing', removal_asked_at = coalesce(removal_asked_at, $3),
    idempotency_key = null, request_hash = null
where {owner} = $1 and voice_id = $2
returning *
"""
_BEGIN_REMOVAL_OF_USER = _BEGIN_REMOVAL.format(owner="user_id")
_BEGIN_REMOVAL_OF_ORGANISATION = _BEGIN_REMOVAL.format(owner="organisation_id")
_FORGET = "delete from cloned_voice where id = $1 returning id"
_FORGET_LOST = """
delete from cloned_voice where id in (
    select id from cloned_voice where state = 'making' and created_at < $1 limit $2
)
"""
# What has a key has an index of its own, in which there is one day.
_FORGET_KEYS = """
update cloned_voice set idempotency_key = null, request_hash = null
where id in (
    select id from cloned_voice
    where idempotency_key is not null and created_at < $1 and state <> 'making'
    limit $2 for update skip locked
)
"""
# What lies in an organisation's account is there yet, and only who knows of it can delete it there.
_ERASE = """
with theirs as (
    select id, organisation_id from cloned_voice where user_id = $1 limit $2
), left_to_organisation as (
    update cloned_voice set user_id = organisation_id, name = '', sample_sha256s = '{}',
        idempotency_key = null, request_hash = null
    where id in (select id from theirs where organisation_id is not null)
    returning id
), deleted as (
    delete from cloned_voice
    where id in (select id from theirs where organisation_id is null)
    returning id
)
select (select count(*) from left_to_organisation) + (select count(*) from deleted)
"""


class SqlClones:
    """Users' clones on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def begin(self, clone: Clone) -> bool:
        row = await self._connection.fetchrow(
            _BEGIN,
            clone.id,
            clone.user_id,
            clone.tier,
            clone.provider,
            clone.name,
            list(clone.sample_sha256s),
            clone.consent_version,
            clone.idempotency_key,
            clone.request_hash,
            clone.created_at,
        )
        return row is not None

    async def finish(
        self, clone_id: CloneId, made: MadeVoice, organisation_id: UUID | None = None
    ) -> None:
        await self._connection.execute(
            _FINISH, clone_id, made.id, made.requires_verification, organisation_id
        )

    async def earlier(self, user_id: UserId, idempotency_key: str) -> Clone | None:
        row = await self._connection.fetchrow(_EARLIER, user_id, idempotency_key)
        return None if row is None else _from_row(row)

    async def of(self, user_id: UserId) -> Sequence[Clone]:
        return [_from_row(row) for row in await self._connection.fetch(_OF, user_id)]

    async def of_organisation(self, organisation_id: UUID) -> Sequence[Clone]:
        rows = await self._connection.fetch(_OF_ORGANISATION, organisation_id)
        return [_from_row(row) for row in rows]

    async def hidden_from(
        self, user_id: UserId, voice_ids: Collection[VoiceId]
    ) -> Collection[VoiceId]:
        rows = await self._connection.fetch(_HIDDEN, user_id, list(voice_ids))
        return {VoiceId(row["voice_id"]) for row in rows}

    async def begin_removal(self, user_id: UserId, voice_id: VoiceId, at: datetime) -> Clone | None:
        row = await self._connection.fetchrow(_BEGIN_REMOVAL_OF_USER, user_id, voice_id, at)
        return None if row is None else _from_row(row)

    async def begin_removal_for(
        self, organisation_id: UUID, voice_id: VoiceId, at: datetime
    ) -> Clone | None:
        row = await self._connection.fetchrow(
            _BEGIN_REMOVAL_OF_ORGANISATION, organisation_id, voice_id, at
        )
        return None if row is None else _from_row(row)

    async def forget(self, clone_id: CloneId) -> bool:
        return await self._connection.fetchval(_FORGET, clone_id) is not None

    async def forget_lost(self, begun_before: datetime, *, most: int) -> int:
        return erased(await self._connection.execute(_FORGET_LOST, begun_before, most))

    async def forget_keys(self, before: datetime, *, most: int) -> int:
        return erased(await self._connection.execute(_FORGET_KEYS, before, most))

    async def erase(self, user_id: UserId, *, most: int) -> int:
        return int(await self._connection.fetchval(_ERASE, user_id, most))


def _from_row(row: Row) -> Clone:
    voice_id = row["voice_id"]
    return Clone(
        id=CloneId(row["id"]),
        user_id=None if row["user_id"] == row["organisation_id"] else UserId(row["user_id"]),
        organisation_id=row["organisation_id"],
        tier=row["tier"],
        provider=row["provider"],
        name=row["name"],
        sample_sha256s=tuple(row["sample_sha256s"]),
        consent_version=row["consent_version"],
        state=CloneState(row["state"]),
        voice_id=None if voice_id is None else VoiceId(voice_id),
        requires_verification=row["requires_verification"],
        idempotency_key=row["idempotency_key"],
        request_hash=row["request_hash"],
        created_at=row["created_at"],
    )
