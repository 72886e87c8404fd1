"""Users in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from services.auth.domain.errors import AddressTaken, UsernameTaken
from services.auth.domain.membership import Membership, OrganisationRole
from services.auth.domain.password import PasswordHash
from services.auth.domain.user import EmailAddress, LoginName, Role, User, Username
from shared.db.database import Connection, Row
from shared.ids import UserId
from shared.tiers import NO_TIER

_COLUMNS = (
    "id, email, username, username_key, password_hash, password_changed_at, tier, tier_revision,"
    " role, is_active, email_verified, created_at, updated_at, last_signed_in_at"
)
_USER = f"""
select {", ".join("u." + column.strip() for column in _COLUMNS.split(","))},
    m.organisation_id, m.role as organisation_role, m.joined_at, m.seated_at,
    o.tier as organisation_tier,
    f.user_id is not null as has_totp
from user_account u
left join membership m on m.user_id = u.id
left join organisation o on o.id = m.organisation_id
-- A join: an `exists` was planned as a scan of the whole table while that was small.
left join totp f on f.user_id = u.id and f.confirmed_at is not null
"""  # noqa: S608 - constants only
_GET = f"{_USER} where u.id = $1"
_HOLD = f"{_GET} for no key update of u"
# A proven address belongs to one account; else the latest claim to it counts.
_BY_EMAIL = f"{_USER} where u.email = $1 order by u.email_verified desc, u.id desc limit 1"
_CLAIMING = f"{_USER} where u.email = $1 order by u.id desc limit $2"
_BY_USERNAME = f"{_USER} where u.username_key = $1"
_ADD = f"""
insert into user_account ({_COLUMNS})
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
on conflict (username_key) do nothing returning id
"""  # noqa: S608
_SAVE = """
update user_account set
    email = $2, username = $3, username_key = $4, password_hash = $5, password_changed_at = $6,
    role = $7, is_active = $8, email_verified = $9, updated_at = $10, last_signed_in_at = $11
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
returning u.id
"""
SELECT_USER = _USER  # for those who join users to what is theirs
_GET_ALL = f"{_USER} where u.id = any($1::uuid[])"

_FORGET_UNPROVEN = """
delete from user_account where id in (
    select id from user_account
    where not email_verified and last_signed_in_at is null and created_at < $1
    limit $2 for update skip locked
) returning id
"""


class SqlUsers:
    """The repository of users."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.retiered: dict[UserId, str] = {}

    async def get(self, user_id: UserId) -> User | None:
        return from_row(await self._connection.fetchrow(_GET, user_id))

    async def get_all(self, user_ids: Collection[UserId]) -> Sequence[User]:
        rows = await self._connection.fetch(_GET_ALL, list(user_ids)) if user_ids else []
        return [user for user in map(from_row, rows) if user is not None]

    async def hold(self, user_id: UserId) -> User | None:
        """Locks the row, but not for foreign keys that point at it."""
        return from_row(await self._connection.fetchrow(_HOLD, user_id))

    async def named(self, name: LoginName) -> User | None:
        if name.email is not None:
            return from_row(await self._connection.fetchrow(_BY_EMAIL, name.email.text))
        if name.username is not None:
            return from_row(await self._connection.fetchrow(_BY_USERNAME, name.username.key))
        return None

    async def claiming(self, address: EmailAddress, *, most: int) -> Sequence[User]:
        rows = await self._connection.fetch(_CLAIMING, address.text, most)
        return [user for user in map(from_row, rows) if user is not None]

    async def add(self, user: User) -> None:
        """Raises UsernameTaken, or AddressTaken for a proven address.

        Of two at once the second waits for the first and then raises.
        """
        try:
            added = await self._connection.fetchrow(_ADD, *to_row(user))
        except asyncpg.UniqueViolationError as error:
            raise AddressTaken from error
        if added is None:
            raise UsernameTaken

    async def save(self, user: User) -> None:
        """Raises UsernameTaken or AddressTaken; the transaction is then fit for a rollback only."""
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
            user.last_signed_in_at,
        )
        try:
            await self._connection.execute(_SAVE, *values)
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name == "ux_user_account_verified_email":
                raise AddressTaken from error
            raise UsernameTaken from error

    async def set_tiers(self, tiers: Mapping[UserId, tuple[str, int]], at: datetime) -> None:
        names = [tier for tier, _ in tiers.values()]
        revisions = [revision for _, revision in tiers.values()]
        rows = await self._connection.fetch(_SET_TIERS, list(tiers), names, revisions, at)
        await self.note_tiers([UserId(row["id"]) for row in rows])

    async def note_tiers(self, user_ids: Collection[UserId]) -> None:
        """Their effective tier may have changed, or they are gone: everybody is told once this is
        committed."""
        if user_ids:
            self.retiered |= await effective_tiers(self._connection, user_ids)

    async def forget_unproven_before(self, at: datetime, *, most: int) -> Sequence[UserId]:
        rows = await self._connection.fetch(_FORGET_UNPROVEN, at, most)
        return [UserId(row["id"]) for row in rows]


async def effective_tiers(
    connection: Connection, user_ids: Collection[UserId]
) -> dict[UserId, str]:
    """What counts for each: their own tier, their organisation's, or NO_TIER once they are gone or
    locked out."""
    rows = await connection.fetch(_GET_ALL, list(user_ids))
    users = [user for user in map(from_row, rows) if user is not None]
    let_in = {user.id: user.effective_tier for user in users if user.is_active}
    return dict.fromkeys(user_ids, NO_TIER) | let_in


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
        last_signed_in_at=row["last_signed_in_at"],
        membership=_membership(row),
        has_second_factor=row["has_totp"],
    )


def _membership(row: Row) -> Membership | None:
    if row["organisation_id"] is None:
        return None
    return Membership(
        organisation_id=row["organisation_id"],
        role=OrganisationRole(row["organisation_role"]),
        tier=row["organisation_tier"],
        joined_at=row["joined_at"],
        seated_at=row["seated_at"],
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
        user.last_signed_in_at,
    )
