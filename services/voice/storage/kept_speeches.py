"""Kept speeches in PostgreSQL: sealed before they come here, bounded by each user and by age."""

from __future__ import annotations

from datetime import datetime

from services.voice.domain.kept_speech import Address, Bounds, KeptSum
from shared.db.database import Connection, Database
from shared.db.forgotten import erased
from shared.ids import UserId

_FIND = """
select audio from cached_utterance where user_id = $1 and address = $2 and kept_at >= $3
"""

# A row without audio, at an address that no speech has: nothing is kept that began to be said
# before it was written. It goes as all else that is kept does.
_REFUSE = """
insert into cached_utterance (user_id, address, audio, bytes, kept_at)
values ($1, '', '', 0, $2)
on conflict (user_id, address) do update
set kept_at = greatest(cached_utterance.kept_at, excluded.kept_at)
"""
# One that is there already is taken anew: it may be too old to be found, or sealed by a lost key.
_KEEP = """
insert into cached_utterance (user_id, address, audio, bytes, kept_at)
select $1::uuid, $2::bytea, $3::bytea, $4::int, $5::timestamptz
where not exists (
    select 1 from cached_utterance where user_id = $1 and address = '' and kept_at >= $6
)
on conflict (user_id, address) do update
set audio = excluded.audio, bytes = excluded.bytes, kept_at = excluded.kept_at
"""
_TRIM = """
delete from cached_utterance where user_id = $1 and address in (
    select address from (
        select address, row_number() over newest as place, sum(bytes) over newest as total
        from cached_utterance where user_id = $1 and bytes > 0
        window newest as (order by kept_at desc, address rows unbounded preceding)
    ) ranked
    where place > $2 or total > $3
)
"""
_DROP = """
delete from cached_utterance where (user_id, address) in (
    select user_id, address from cached_utterance where kept_at < $1 order by kept_at limit $2
    for update skip locked
)
"""
_SUM = """
select count(*) as utterances, coalesce(sum(bytes), 0)::bigint as bytes, min(kept_at) as oldest_at
from cached_utterance where user_id = $1 and bytes > 0
"""
_ERASE_SPOKEN = """
delete from cached_utterance where user_id = $1 and address in (
    select address from cached_utterance where user_id = $1 and bytes > 0 limit $2
)
"""
_ERASE = """
delete from cached_utterance where user_id = $1 and address in (
    select address from cached_utterance where user_id = $1 limit $2
)
"""


class SqlKeptSpeeches:
    """Sealed audio in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, user_id: UserId, address: Address, *, since: datetime) -> bytes | None:
        row = await self._database.fetchrow(_FIND, user_id, address, since)
        return None if row is None else bytes(row["audio"])

    async def keep(
        self,
        user_id: UserId,
        address: Address,
        sealed: bytes,
        *,
        began: datetime,
        at: datetime,
        bounds: Bounds,
    ) -> None:
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_KEEP, user_id, address, sealed, len(sealed), at, began)
            await connection.execute(_TRIM, user_id, bounds.entries_of_user, bounds.bytes_of_user)

    async def drop_before(self, moment: datetime, *, most: int) -> int:
        return erased(await self._database.execute(_DROP, moment, most))


class SqlKeptSpeechesOfUser:
    """One user's kept speeches on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def sum_of(self, user_id: UserId) -> KeptSum:
        row = await self._connection.fetchrow(_SUM, user_id)
        assert row is not None
        return KeptSum(row["utterances"], row["bytes"], row["oldest_at"])

    async def erase_spoken(self, user_id: UserId, *, before: datetime, most: int) -> int:
        await self._connection.execute(_REFUSE, user_id, before)
        return erased(await self._connection.execute(_ERASE_SPOKEN, user_id, most))

    async def erase(self, user_id: UserId, *, most: int) -> int:
        return erased(await self._connection.execute(_ERASE, user_id, most))
