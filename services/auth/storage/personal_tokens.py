"""Personal tokens in the database: their hashes, never themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.auth.domain.personal_token import PersonalToken, PersonalTokenId, PresentedToken
from services.auth.storage.ended_credentials import SqlEndedCredentials
from services.auth.storage.users import SELECT_USER
from services.auth.storage.users import from_row as user_from_row
from shared.db.database import Connection, Database, Row
from shared.ids import UserId

_NAMES = (
    *("id", "user_id", "name", "token_hash", "hint", "scopes"),
    *("created_at", "expires_at", "last_used_at", "revoked_at", "client_id"),
)
_COLUMNS = ", ".join(_NAMES)
_GET = f"select {_COLUMNS} from personal_token where id = $1 for update"  # noqa: S608
_LIVE = "user_id = $1 and revoked_at is null and expires_at > $2"
# Ids are made in time's order, so the newest has the highest.
_LIVE_OF = f"""
select {_COLUMNS} from personal_token where {_LIVE} and ($3::uuid is null or id < $3)
order by id desc limit $4
"""  # noqa: S608
_KEPT_OF = f"""
select {_COLUMNS} from personal_token where user_id = $1 and ($2::uuid is null or id < $2)
order by id desc limit $3
"""  # noqa: S608
# In the order in which whoever disables a client has them, too: so of two who hold many at once
# one waits for the other, and never both.
_HOLD_LIVE_OF = f"""
select {_COLUMNS} from personal_token where {_LIVE} order by id limit $3 for no key update
"""  # noqa: S608
_COUNT_LIVE = f"select count(*) as live from personal_token where {_LIVE}"  # noqa: S608
_ADD = f"""
insert into personal_token ({_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""  # noqa: S608
_REVOKE = "update personal_token set revoked_at = $2 where id = $1 and revoked_at is null"
_REVOKE_ALL_OF_CLIENT = """
with held as (
    select id from personal_token
    where client_id = $1 and revoked_at is null and expires_at > $2
    order by id for no key update
)
update personal_token t set revoked_at = $2 from held where t.id = held.id
returning t.id, t.user_id
"""
_FORGET_BEFORE = """
delete from personal_token where id in (
    select id from personal_token where expires_at < $1 or revoked_at < $1 limit $2
    for update skip locked
) returning id
"""
_BY_HASH = f"""
select u.*, {", ".join(f"t.{name} as token_{name}" for name in _NAMES)}
from personal_token t join ({SELECT_USER}) u on u.id = t.user_id
where t.token_hash = $1
"""  # noqa: S608
# Uses at the same moment all find an old one; only the first of them has something to write.
_NOTE_USE = """
update personal_token set last_used_at = $2
where id = $1 and (last_used_at is null or last_used_at < $2)
"""


class SqlPersonalTokens:
    """The repository of personal tokens."""

    def __init__(self, connection: Connection, ended: SqlEndedCredentials) -> None:
        self._connection = connection
        self._ended = ended

    async def get(self, token_id: PersonalTokenId) -> PersonalToken | None:
        """The token, whom nobody else changes until this unit of work ends."""
        row = await self._connection.fetchrow(_GET, token_id)
        return from_row(row) if row else None

    async def live_of(
        self, user_id: UserId, at: datetime, *, before: PersonalTokenId | None, most: int
    ) -> Sequence[PersonalToken]:
        rows = await self._connection.fetch(_LIVE_OF, user_id, at, before, most)
        return [from_row(row) for row in rows]

    async def kept_of(
        self, user_id: UserId, *, before: PersonalTokenId | None, most: int
    ) -> Sequence[PersonalToken]:
        rows = await self._connection.fetch(_KEPT_OF, user_id, before, most)
        return [from_row(row) for row in rows]

    async def hold_live_of(
        self, user_id: UserId, at: datetime, *, most: int
    ) -> Sequence[PersonalToken]:
        """Locks the rows: none of them is revoked before this unit of work ends."""
        rows = await self._connection.fetch(_HOLD_LIVE_OF, user_id, at, most)
        return [from_row(row) for row in rows]

    async def count_live(self, user_id: UserId, at: datetime) -> int:
        row = await self._connection.fetchrow(_COUNT_LIVE, user_id, at)
        assert row is not None
        return int(row["live"])

    async def add(self, token: PersonalToken) -> None:
        await self._connection.execute(_ADD, *to_row(token))

    async def revoke(self, token_id: PersonalTokenId, at: datetime) -> None:
        await self._connection.execute(_REVOKE, token_id, at)

    async def revoke_all_of_client(self, client_id: str, at: datetime) -> int:
        rows = await self._connection.fetch(_REVOKE_ALL_OF_CLIENT, client_id, at)
        for row in rows:
            await self._ended.add([row["id"]], of=UserId(row["user_id"]), at=at)
        return len(rows)

    async def forget_before(self, at: datetime, *, most: int) -> int:
        return len(await self._connection.fetch(_FORGET_BEFORE, at, most))


class SqlPresentedTokens:
    """What each use of a token asks: one statement and no transaction around it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_hash(self, token_hash: bytes) -> PresentedToken | None:
        row = await self._database.fetchrow(_BY_HASH, token_hash)
        owner = user_from_row(row)
        if row is None or owner is None:
            return None
        return PresentedToken(from_row(row, prefix="token_"), owner)

    async def note_use(self, token_id: PersonalTokenId, at: datetime) -> None:
        await self._database.execute(_NOTE_USE, token_id, at)


def from_row(row: Row, *, prefix: str = "") -> PersonalToken:
    """A token as the domain knows it."""
    return PersonalToken(
        id=PersonalTokenId(row[prefix + "id"]),
        user_id=UserId(row[prefix + "user_id"]),
        name=row[prefix + "name"],
        token_hash=row[prefix + "token_hash"],
        hint=row[prefix + "hint"],
        scopes=frozenset(row[prefix + "scopes"]),
        created_at=row[prefix + "created_at"],
        expires_at=row[prefix + "expires_at"],
        last_used_at=row[prefix + "last_used_at"],
        revoked_at=row[prefix + "revoked_at"],
        client_id=row[prefix + "client_id"],
    )


def to_row(token: PersonalToken) -> tuple[Any, ...]:
    """The values of `_COLUMNS`."""
    return (
        token.id,
        token.user_id,
        token.name,
        token.token_hash,
        token.hint,
        sorted(token.scopes),
        token.created_at,
        token.expires_at,
        token.last_used_at,
        token.revoked_at,
        token.client_id,
    )
