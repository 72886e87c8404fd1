"""Authenticators and recovery codes in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.auth.domain.errors import SecondFactorUnreadable
from services.auth.domain.ports import SigningKeySource
from services.auth.domain.sealing import Sealer, Unsealable
from services.auth.domain.second_factor import Totp
from shared.db.database import Connection, Row
from shared.ids import UserId

_PURPOSE = "totp"
_GET = """
select user_id, sealed_secret, created_at, confirmed_at, last_step from totp where user_id = $1
"""
_ACTIVE_SINCE = "select confirmed_at from totp where user_id = $1"
_BEGIN = """
insert into totp (user_id, sealed_secret, created_at, last_step) values ($1, $2, $3, $4)
on conflict (user_id) do update set
    sealed_secret = excluded.sealed_secret,
    created_at = excluded.created_at,
    last_step = excluded.last_step
where totp.confirmed_at is null
returning user_id
"""
# When it was begun tells one secret from its successor.
_CONFIRM = """
update totp set confirmed_at = $3, last_step = $4
where user_id = $1 and created_at = $2 and confirmed_at is null
returning user_id
"""
# Of two uses of one code at once, the second finds the step taken.
_TAKE_STEP = """
update totp set last_step = $2
where user_id = $1 and last_step < $2 and confirmed_at is not null
returning user_id
"""
_REMOVE = "delete from totp where user_id = $1 and confirmed_at is not null returning user_id"
_REMOVE_CODES = "delete from recovery_code where user_id = $1"
_ADD_CODES = "insert into recovery_code (user_id, code_hash) select $1, unnest($2::bytea[])"
_TAKE_CODE = """
update recovery_code set used_at = $3
where user_id = $1 and code_hash = $2 and used_at is null
returning user_id
"""
_CODES_LEFT = "select count(*) from recovery_code where user_id = $1 and used_at is null"


class SqlSecondFactors:
    """The repository of second factors. The secrets are sealed: a copy of them makes codes."""

    def __init__(self, connection: Connection, keys: SigningKeySource) -> None:
        self._connection = connection
        self._keys = keys

    async def totp_of(self, user_id: UserId) -> Totp | None:
        row = await self._connection.fetchrow(_GET, user_id)
        return self._from_row(row) if row else None

    async def active_since(self, user_id: UserId) -> datetime | None:
        row = await self._connection.fetchrow(_ACTIVE_SINCE, user_id)
        return row["confirmed_at"] if row else None

    async def begin(self, totp: Totp) -> bool:
        sealed = self._sealer().seal(_PURPOSE, totp.user_id, totp.secret.encode())
        values = (totp.user_id, sealed, totp.created_at, totp.last_step)
        return await self._connection.fetchrow(_BEGIN, *values) is not None

    async def confirm(self, totp: Totp) -> bool:
        values = (totp.user_id, totp.created_at, totp.confirmed_at, totp.last_step)
        return await self._connection.fetchrow(_CONFIRM, *values) is not None

    async def take_step(self, user_id: UserId, step: int) -> bool:
        return await self._connection.fetchrow(_TAKE_STEP, user_id, step) is not None

    async def remove(self, user_id: UserId) -> bool:
        if await self._connection.fetchrow(_REMOVE, user_id) is None:
            return False
        await self._connection.execute(_REMOVE_CODES, user_id)
        return True

    async def replace_recovery_codes(self, user_id: UserId, hashes: Sequence[bytes]) -> None:
        await self._connection.execute(_REMOVE_CODES, user_id)
        await self._connection.execute(_ADD_CODES, user_id, list(hashes))

    async def take_recovery_code(self, user_id: UserId, hash_: bytes, at: datetime) -> bool:
        return await self._connection.fetchrow(_TAKE_CODE, user_id, hash_, at) is not None

    async def recovery_codes_left(self, user_id: UserId) -> int:
        return int(await self._connection.fetchval(_CODES_LEFT, user_id))

    def _from_row(self, row: Row) -> Totp:
        user_id = UserId(row["user_id"])
        try:
            secret = self._sealer().open(_PURPOSE, user_id, row["sealed_secret"])
        except Unsealable as error:
            raise SecondFactorUnreadable from error
        return Totp(
            user_id, secret.decode(), row["created_at"], row["confirmed_at"], row["last_step"]
        )

    def _sealer(self) -> Sealer:
        return Sealer(self._keys.current().sealing_keys)
