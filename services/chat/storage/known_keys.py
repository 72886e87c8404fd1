"""What chat has been told about users' keys."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.chat.domain.known_key import KnownKey, RevokedKey
from shared.db.database import Connection
from shared.ids import UserId

# Keys in order, so that two batches never wait for each other in a circle.
_REMEMBER = """
insert into known_key (user_id, provider, key_version, status, models)
select * from (
    select distinct on (user_id, provider) user_id, provider, key_version, status,
           coalesce(string_to_array(nullif(models, ''), ' '), '{}') as models
    from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::text[])
         with ordinality as n (user_id, provider, key_version, status, models, position)
    order by user_id, provider, key_version desc, position desc
) newest
on conflict (user_id, provider) do update set
    key_version = excluded.key_version, status = excluded.status, models = excluded.models
where known_key.key_version <= excluded.key_version
"""

# The version stays as a tombstone: a late `key.validated` of the revoked one must not revive it.
_FORGET = """
insert into known_key (user_id, provider, key_version, status, models)
select user_id, provider, max(key_version) + 1, 'revoked', '{}'
from unnest($1::uuid[], $2::text[], $3::int[]) as n (user_id, provider, key_version)
group by user_id, provider order by user_id, provider
on conflict (user_id, provider) do update set
    key_version = excluded.key_version, status = 'revoked', models = '{}'
where known_key.key_version < excluded.key_version
"""

# An organisation's keys stand here under its id.
_OF_USER = "select * from known_key where user_id in ($1, $2)"


class SqlKnownKeys:
    """Known keys on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def remember(self, keys: Sequence[KnownKey]) -> None:
        await self._connection.execute(
            _REMEMBER,
            [key.user_id for key in keys],
            [key.provider for key in keys],
            [key.key_version for key in keys],
            [key.status for key in keys],
            [" ".join(key.models) for key in keys],
        )

    async def forget(self, keys: Sequence[RevokedKey]) -> None:
        await self._connection.execute(
            _FORGET,
            [key.user_id for key in keys],
            [key.provider for key in keys],
            [key.key_version for key in keys],
        )

    async def of_user(
        self, user_id: UserId, *, organisation_id: UUID | None = None
    ) -> Sequence[KnownKey]:
        rows = await self._connection.fetch(_OF_USER, user_id, organisation_id)
        return [
            KnownKey(
                user_id=UserId(row["user_id"]),
                provider=row["provider"],
                key_version=row["key_version"],
                status=row["status"],
                models=tuple(row["models"]),
            )
            for row in rows
        ]
