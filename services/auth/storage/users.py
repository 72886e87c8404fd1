"""Users in the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import asyncpg

from services.auth.domain.errors import AccountExists, UsernameTaken
from services.auth.domain.password import PasswordHash
from services.auth.domain.user import EmailAddress, LoginName, Role, User, Username
from shared.db.database import Connection, Row
from shared.ids import UserId

_COLUMNS = (
    "id, email, username, username_key, password_hash, password_changed_at, tier, tier_revision,"
    " role, is_active, email_verified, created_at, updated_at"
)
_GET = f"select {_COLUMNS} from user_account where id = $1"  # noqa: S608 - constants only
_HOLD = f"{_GET} for no key update"
_BY_EMAIL = f"select {_COLUMNS} from user_account where email = $1"  # noqa: S608
_BY_USERNAME = f"select {_COLUMNS} from user_account where username_key = $1"  # noqa: S608
_ADD = f"""
insert into user_account ({_COLUMNS})
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
on conflict do nothing returning id
"""  # noqa: S608
_SAVE = """
update user_account set
    email = $2, username = $3, username_key = $4, password_hash = $5, password_changed_at = $6,
    role = $7, is_active = $8, email_verified = $9, updated_at = $10
where id = $1
"""
# Rows are locked in one order, so that two batches at once can't wait for each other.
_SET_TIERS = """
with told as (
    select * from unnest($1::uuid[], $2::text[], $3::bigint[]) as t (user_id, tier, revision)
), held as (
    select u.id, told.tier, told.revision from user_account u join told on told.user_id = u.id
    order by u.id for no key update of u
)
update user_account u set tier = held.tier, tier_revision = held.revision, updated_at = $4
from held where u.id = held.id and u.tier_revision < held.revision
"""


class SqlUsers:
    """The repository of users."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, user_id: UserId) -> User | None:
        return from_row(await self._connection.fetchrow(_GET, user_id))

    async def hold(self, user_id: UserId) -> User | None:
        """Locks the row, but not for foreign keys that point at it."""
        return from_row(await self._connection.fetchrow(_HOLD, user_id))

    async def named(self, name: LoginName) -> User | None:
        if name.email is not None:
            return from_row(await self._connection.fetchrow(_BY_EMAIL, name.email.text))
        if name.username is not None:
            return from_row(await self._connection.fetchrow(_BY_USERNAME, name.username.key))
        return None

    async def add(self, user: User) -> None:
        """Raises AccountExists; of two at once the second waits for the first and then raises."""
        if await self._connection.fetchrow(_ADD, *to_row(user)) is None:
            raise AccountExists

    async def save(self, user: User) -> None:
        """Raises UsernameTaken, which leaves the transaction fit for a rollback only."""
        values = (
            user.id,
            user.email.text,
            user.username.text,
            user.username.key,
            user.password.encoded,
            user.password_changed_at,
            user.role.value,
            user.is_active,
            user.email_verified,
            user.updated_at,
        )
        try:
            await self._connection.execute(_SAVE, *values)
        except asyncpg.UniqueViolationError as error:
            raise UsernameTaken from error

    async def set_tiers(self, tiers: Mapping[UserId, tuple[str, int]], at: datetime) -> None:
        names = [tier for tier, _ in tiers.values()]
        revisions = [revision for _, revision in tiers.values()]
        await self._connection.execute(_SET_TIERS, list(tiers), names, revisions, at)


def from_row(row: Row | None) -> User | None:
    """A user as the domain knows it; what was checked on its way in is not checked again."""
    if row is None:
        return None
    return User(
        id=UserId(row["id"]),
        email=EmailAddress(row["email"]),
        username=Username(row["username"]),
        password=PasswordHash(row["password_hash"]),
        password_changed_at=row["password_changed_at"],
        tier=row["tier"],
        tier_revision=row["tier_revision"],
        role=Role(row["role"]),
        is_active=row["is_active"],
        email_verified=row["email_verified"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def to_row(user: User) -> tuple[Any, ...]:
    """The values of `_COLUMNS`."""
    return (
        user.id,
        user.email.text,
        user.username.text,
        user.username.key,
        user.password.encoded,
        user.password_changed_at,
        user.tier,
        user.tier_revision,
        user.role.value,
        user.is_active,
        user.email_verified,
        user.created_at,
        user.updated_at,
    )
