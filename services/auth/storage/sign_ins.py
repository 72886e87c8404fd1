"""Sign-ins in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.auth.domain.sign_in import EndReason, SignIn, SignInId
from services.auth.storage.ended_credentials import SqlEndedCredentials
from services.auth.storage.oauth import SqlAuthorizationCodes
from shared.db.database import Connection, Row
from shared.ids import UserId

_COLUMNS = (
    "id, user_id, device, salt, pepper_version, counter, created_at, rotated_at, expires_at,"
    " ended_at, authenticated_at, methods, client_id, scopes"
)
_GET = f"select {_COLUMNS} from sign_in where id = $1"  # noqa: S608 - constants only
# Ids are made in time's order, so the newest has the highest.
_LIVE = f"""
select {_COLUMNS} from sign_in
where user_id = $1 and ended_at is null and expires_at > $2 and ($3::uuid is null or id < $3)
order by id desc limit $4
"""  # noqa: S608
_KEPT = f"""
select {_COLUMNS} from sign_in where user_id = $1 and ($2::uuid is null or id < $2)
order by id desc limit $3
"""  # noqa: S608
_ADD = f"""
insert into sign_in ({_COLUMNS})
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""  # noqa: S608
# The whole of the rotation: whoever comes second finds another counter and changes nothing.
_ADVANCE = """
update sign_in set counter = $2, rotated_at = $3, expires_at = $4
where id = $1 and counter = $2 - 1 and ended_at is null
returning id
"""
_END = """
update sign_in set ended_at = $2, end_reason = $3 where id = $1 and ended_at is null
returning id, user_id
"""
_PROVE = "update sign_in set authenticated_at = $2, methods = $3 where id = $1"
# Locked in one order, those of a user as those of a client, and before any personal token: so of
# two who end many at once one waits for the other, and never both. The one that stays is locked
# with them, since its user may go on to change it.
_END_ALL = """
with held as (
    select id from sign_in where user_id = $1 and ended_at is null
    order by id for no key update
)
update sign_in s set ended_at = $2, end_reason = $3
from held where s.id = held.id and ($4::uuid is null or s.id <> $4)
returning s.id
"""
_END_ALL_OF_CLIENT = """
with held as (
    select id from sign_in where client_id = $1 and ended_at is null
    order by id for no key update
)
update sign_in s set ended_at = $2, end_reason = $3 from held where s.id = held.id
returning s.id, s.user_id
"""
_FORGET = """
delete from sign_in where id in (
    select id from sign_in where expires_at < $1 or ended_at < $1 limit $2
    for update skip locked
) returning id
"""


class SqlSignIns:
    """The repository of sign-ins."""

    def __init__(
        self, connection: Connection, ended: SqlEndedCredentials, codes: SqlAuthorizationCodes
    ) -> None:
        self._connection = connection
        self._ended = ended
        self._codes = codes

    async def get(self, sign_in_id: SignInId) -> SignIn | None:
        row = await self._connection.fetchrow(_GET, sign_in_id)
        return from_row(row) if row else None

    async def live_of(
        self, user_id: UserId, at: datetime, *, before: SignInId | None, most: int
    ) -> Sequence[SignIn]:
        rows = await self._connection.fetch(_LIVE, user_id, at, before, most)
        return [from_row(row) for row in rows]

    async def kept_of(
        self, user_id: UserId, *, before: SignInId | None, most: int
    ) -> Sequence[SignIn]:
        rows = await self._connection.fetch(_KEPT, user_id, before, most)
        return [from_row(row) for row in rows]

    async def add(self, sign_in: SignIn) -> None:
        await self._connection.execute(_ADD, *to_row(sign_in))

    async def advance(self, rotated: SignIn) -> bool:
        values = (rotated.id, rotated.counter, rotated.rotated_at, rotated.expires_at)
        return await self._connection.fetchrow(_ADVANCE, *values) is not None

    async def prove_again(self, proven: SignIn) -> None:
        await self._connection.execute(
            _PROVE, proven.id, proven.authenticated_at, sorted(proven.methods)
        )

    async def end(self, sign_in_id: SignInId, reason: EndReason, at: datetime) -> bool:
        row = await self._connection.fetchrow(_END, sign_in_id, at, reason.value)
        if row is None:
            return False
        await self._ended.add([row["id"]], of=UserId(row["user_id"]), at=at)
        return True

    async def end_all_of(
        self, user_id: UserId, reason: EndReason, at: datetime, *, but: SignInId | None = None
    ) -> int:
        # Before: a code that is being redeemed is waited for, and what it has begun is found below.
        await self._codes.void(user_id, at)
        rows = await self._connection.fetch(_END_ALL, user_id, at, reason.value, but)
        await self._ended.add([row["id"] for row in rows], of=user_id, at=at)
        return len(rows)

    async def end_all_of_client(self, client_id: str, reason: EndReason, at: datetime) -> int:
        rows = await self._connection.fetch(_END_ALL_OF_CLIENT, client_id, at, reason.value)
        for row in rows:
            await self._ended.add([row["id"]], of=UserId(row["user_id"]), at=at)
        return len(rows)

    async def forget_before(self, at: datetime, *, most: int) -> int:
        return len(await self._connection.fetch(_FORGET, at, most))


def from_row(row: Row) -> SignIn:
    """A sign-in as the domain knows it."""
    return SignIn(
        id=SignInId(row["id"]),
        user_id=UserId(row["user_id"]),
        device=row["device"],
        salt=row["salt"],
        pepper_version=row["pepper_version"],
        counter=row["counter"],
        created_at=row["created_at"],
        rotated_at=row["rotated_at"],
        expires_at=row["expires_at"],
        ended_at=row["ended_at"],
        authenticated_at=row["authenticated_at"],
        methods=frozenset(row["methods"]),
        client_id=row["client_id"],
        scopes=None if row["scopes"] is None else frozenset(row["scopes"]),
    )


def to_row(sign_in: SignIn) -> tuple[Any, ...]:
    """The values of `_COLUMNS`."""
    return (
        sign_in.id,
        sign_in.user_id,
        sign_in.device,
        sign_in.salt,
        sign_in.pepper_version,
        sign_in.counter,
        sign_in.created_at,
        sign_in.rotated_at,
        sign_in.expires_at,
        sign_in.ended_at,
        sign_in.authenticated_at,
        sorted(sign_in.methods),
        sign_in.client_id,
        None if sign_in.scopes is None else sorted(sign_in.scopes),
    )
