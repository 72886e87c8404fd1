"""Organisations, their members and their invitations in the database.

Who changes members, seats or invitations holds the organisation's row first. So everybody takes
the same lock before they count, and two who count at once can't both find the last seat free.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import asyncpg

from services.auth.domain.errors import AccountGone, InAnOrganisation
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import (
    Headcount,
    Invitation,
    InvitationId,
    InvitationToken,
    Member,
    Organisation,
    OrganisationId,
    OrganisationName,
)
from services.auth.domain.user import EmailAddress, Username
from shared.db.database import Connection, Row
from shared.ids import UserId

_ORGANISATION = "id, name, tier, seats, subscription_revision, created_at, updated_at, next_seats"
_GET = f"select {_ORGANISATION} from organisation where id = $1"  # noqa: S608 - constants only
_HOLD = f"{_GET} for update"
_ADD = f"insert into organisation ({_ORGANISATION}) values ($1, $2, $3, $4, $5, $6, $7, $8)"  # noqa: S608
_SAVE = """
update organisation set name = $2, tier = $3, seats = $4, subscription_revision = $5,
    updated_at = $6, next_seats = $7
where id = $1
"""
_DELETE = "delete from organisation where id = $1"

_MEMBER = """
select m.user_id, m.organisation_id, m.role, m.joined_at, m.seated_at, u.username, u.email,
    m.seat_lost_at, m.sat_since
from membership m join user_account u on u.id = m.user_id
where m.organisation_id = $1
"""
_GET_MEMBER = f"{_MEMBER} and m.user_id = $2"
_MEMBERS = f"""{_MEMBER}
and ($2::timestamptz is null or (m.joined_at, m.user_id) > ($2, $3::uuid))
order by m.joined_at, m.user_id limit $4
"""
_SEATED = f"{_MEMBER} and m.seated_at is not null"
_LOST_SEATS = f"{_MEMBER} and m.seated_at is null and m.seat_lost_at > $2"
_WITH_ROLES = f"{_MEMBER} and m.role = any($2::text[]) order by m.joined_at, m.user_id"
_HEADCOUNT = """
select count(*) as members, count(*) filter (where role = 'owner') as owners,
    count(seated_at) as seated
from membership where organisation_id = $1
"""
_HAS_ADDRESS = f"select exists ({_MEMBER} and u.email = $2 and u.email_verified) as found"
_ADD_MEMBER = """
insert into membership (user_id, organisation_id, role, joined_at, seated_at)
values ($1, $2, $3, $4, $5) on conflict (user_id) do nothing returning user_id
"""
_SAVE_MEMBERS = """
update membership m set role = t.role, seated_at = t.seated_at, seat_lost_at = t.seat_lost_at,
    sat_since = t.sat_since
from unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[])
    as t (user_id, role, seated_at, seat_lost_at, sat_since)
where m.organisation_id = $1 and m.user_id = t.user_id
"""
_REMOVE_MEMBER = "delete from membership where organisation_id = $1 and user_id = $2"

_INVITATION = (
    "id, organisation_id, email, role, token_hash, invited_by, created_at, expires_at,"
    " accepted_at, withdrawn_at, accepted_by"
)
_GET_INVITATION = f"select {_INVITATION} from invitation where organisation_id = $1 and id = $2"  # noqa: S608
_SHOWN = f"select {_INVITATION} from invitation where token_hash = $1"  # noqa: S608
_IS_OPEN = "accepted_at is null and withdrawn_at is null and expires_at > $2"
# Ids are made in time's order, so the newest has the highest.
_OPEN = f"""
select {_INVITATION} from invitation
where organisation_id = $1 and {_IS_OPEN} and ($3::uuid is null or id < $3)
order by id desc limit $4
"""  # noqa: S608
_COUNT_OPEN = f"""
select count(*) as open from invitation where organisation_id = $1 and {_IS_OPEN}
"""  # noqa: S608
_CONCERNING = f"""
select {_INVITATION} from invitation
where (invited_by = $1 or accepted_by = $1 or email = $2) and ($3::uuid is null or id < $3)
order by id desc limit $4
"""  # noqa: S608
_SENT_SINCE = """
select created_at from invitation
where organisation_id = $1 and email = $2 and created_at > $3 order by created_at
"""
_ADD_INVITATION = f"""
insert into invitation ({_INVITATION}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""  # noqa: S608
_SAVE_INVITATION = """
update invitation set accepted_at = $2, withdrawn_at = $3, accepted_by = $4 where id = $1
"""
_WITHDRAW_TO = f"""
update invitation set withdrawn_at = $2 where organisation_id = $1 and {_IS_OPEN} and email = $3
"""  # noqa: S608
_WITHDRAW_BY = f"""
update invitation set withdrawn_at = $2
where organisation_id = $1 and {_IS_OPEN} and invited_by = $3 and role = any($4::text[])
"""  # noqa: S608
_FORGET = """
delete from invitation where id in (
    select id from invitation where expires_at < $1 limit $2 for update skip locked
) returning id
"""


class SqlOrganisations:
    """The repository of organisations."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, organisation_id: OrganisationId) -> Organisation | None:
        return _organisation(await self._connection.fetchrow(_GET, organisation_id))

    async def hold(self, organisation_id: OrganisationId) -> Organisation | None:
        return _organisation(await self._connection.fetchrow(_HOLD, organisation_id))

    async def add(self, organisation: Organisation) -> None:
        await self._connection.execute(
            _ADD,
            organisation.id,
            organisation.name.text,
            organisation.tier,
            organisation.seats,
            organisation.subscription_revision,
            organisation.created_at,
            organisation.updated_at,
            organisation.next_seats,
        )

    async def save(self, organisation: Organisation) -> None:
        await self._connection.execute(
            _SAVE,
            organisation.id,
            organisation.name.text,
            organisation.tier,
            organisation.seats,
            organisation.subscription_revision,
            organisation.updated_at,
            organisation.next_seats,
        )

    async def delete(self, organisation_id: OrganisationId) -> None:
        await self._connection.execute(_DELETE, organisation_id)


class SqlMembers:
    """The repository of memberships."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, organisation_id: OrganisationId, user_id: UserId) -> Member | None:
        row = await self._connection.fetchrow(_GET_MEMBER, organisation_id, user_id)
        return _member(row) if row else None

    async def of(
        self, organisation_id: OrganisationId, *, after: tuple[datetime, UserId] | None, most: int
    ) -> Sequence[Member]:
        joined_at, user_id = after or (None, None)
        rows = await self._connection.fetch(_MEMBERS, organisation_id, joined_at, user_id, most)
        return [_member(row) for row in rows]

    async def seated(self, organisation_id: OrganisationId) -> Sequence[Member]:
        rows = await self._connection.fetch(_SEATED, organisation_id)
        return [_member(row) for row in rows]

    async def who_lost_seats(
        self, organisation_id: OrganisationId, since: datetime
    ) -> Sequence[Member]:
        rows = await self._connection.fetch(_LOST_SEATS, organisation_id, since)
        return [_member(row) for row in rows]

    async def with_roles(
        self, organisation_id: OrganisationId, roles: Collection[OrganisationRole]
    ) -> Sequence[Member]:
        names = [role.value for role in roles]
        rows = await self._connection.fetch(_WITH_ROLES, organisation_id, names)
        return [_member(row) for row in rows]

    async def headcount(self, organisation_id: OrganisationId) -> Headcount:
        row = await self._connection.fetchrow(_HEADCOUNT, organisation_id)
        assert row is not None
        return Headcount(row["members"], row["owners"], row["seated"])

    async def has_address(self, organisation_id: OrganisationId, email: EmailAddress) -> bool:
        row = await self._connection.fetchrow(_HAS_ADDRESS, organisation_id, email.text)
        assert row is not None
        return bool(row["found"])

    async def add(self, member: Member) -> None:
        """Raises InAnOrganisation or AccountGone; of two at once the second waits for the first."""
        values = (
            member.user_id,
            member.organisation_id,
            member.role.value,
            member.joined_at,
            member.seated_at,
        )
        try:
            row = await self._connection.fetchrow(_ADD_MEMBER, *values)
        except asyncpg.ForeignKeyViolationError as error:
            # The organisation is held or new; so it is the account that was deleted meanwhile.
            raise AccountGone from error
        if row is None:
            raise InAnOrganisation

    async def save(self, members: Sequence[Member]) -> None:
        if not members:
            return
        assert len({member.organisation_id for member in members}) == 1
        await self._connection.execute(
            _SAVE_MEMBERS,
            members[0].organisation_id,
            [member.user_id for member in members],
            [member.role.value for member in members],
            [member.seated_at for member in members],
            [member.seat_lost_at for member in members],
            [member.sat_since for member in members],
        )

    async def remove(self, member: Member) -> None:
        await self._connection.execute(_REMOVE_MEMBER, member.organisation_id, member.user_id)


class SqlInvitations:
    """The repository of invitations."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(
        self, organisation_id: OrganisationId, invitation_id: InvitationId
    ) -> Invitation | None:
        row = await self._connection.fetchrow(_GET_INVITATION, organisation_id, invitation_id)
        return _invitation(row) if row else None

    async def shown(self, token: InvitationToken) -> Invitation | None:
        row = await self._connection.fetchrow(_SHOWN, token.hash)
        return _invitation(row) if row else None

    async def open_of(
        self,
        organisation_id: OrganisationId,
        at: datetime,
        *,
        before: InvitationId | None,
        most: int,
    ) -> Sequence[Invitation]:
        rows = await self._connection.fetch(_OPEN, organisation_id, at, before, most)
        return [_invitation(row) for row in rows]

    async def concerning(
        self,
        user_id: UserId,
        email: EmailAddress | None,
        *,
        before: InvitationId | None,
        most: int,
    ) -> Sequence[Invitation]:
        address = email.text if email else None
        rows = await self._connection.fetch(_CONCERNING, user_id, address, before, most)
        return [_invitation(row) for row in rows]

    async def count_open(self, organisation_id: OrganisationId, at: datetime) -> int:
        row = await self._connection.fetchrow(_COUNT_OPEN, organisation_id, at)
        assert row is not None
        return int(row["open"])

    async def sent_since(
        self, organisation_id: OrganisationId, email: EmailAddress, since: datetime
    ) -> Sequence[datetime]:
        rows = await self._connection.fetch(_SENT_SINCE, organisation_id, email.text, since)
        return [row["created_at"] for row in rows]

    async def add(self, invitation: Invitation) -> None:
        await self._connection.execute(
            _ADD_INVITATION,
            invitation.id,
            invitation.organisation_id,
            invitation.email.text,
            invitation.role.value,
            invitation.token_hash,
            invitation.invited_by,
            invitation.created_at,
            invitation.expires_at,
            invitation.accepted_at,
            invitation.withdrawn_at,
            invitation.accepted_by,
        )

    async def save(self, invitation: Invitation) -> None:
        await self._connection.execute(
            _SAVE_INVITATION,
            invitation.id,
            invitation.accepted_at,
            invitation.withdrawn_at,
            invitation.accepted_by,
        )

    async def withdraw_to(
        self, organisation_id: OrganisationId, email: EmailAddress, at: datetime
    ) -> None:
        await self._connection.execute(_WITHDRAW_TO, organisation_id, at, email.text)

    async def withdraw_by(
        self,
        organisation_id: OrganisationId,
        inviter: UserId,
        at: datetime,
        *,
        roles: Collection[OrganisationRole],
    ) -> None:
        names = [role.value for role in roles]
        await self._connection.execute(_WITHDRAW_BY, organisation_id, at, inviter, names)

    async def forget_before(self, at: datetime, *, most: int) -> int:
        return len(await self._connection.fetch(_FORGET, at, most))


def _organisation(row: Row | None) -> Organisation | None:
    if row is None:
        return None
    return Organisation(
        id=OrganisationId(row["id"]),
        name=OrganisationName(row["name"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        tier=row["tier"],
        seats=row["seats"],
        subscription_revision=row["subscription_revision"],
        next_seats=row["next_seats"],
    )


def _member(row: Row) -> Member:
    return Member(
        user_id=UserId(row["user_id"]),
        organisation_id=OrganisationId(row["organisation_id"]),
        role=OrganisationRole(row["role"]),
        joined_at=row["joined_at"],
        seated_at=row["seated_at"],
        username=Username(row["username"]),
        email=EmailAddress(row["email"]),
        seat_lost_at=row["seat_lost_at"],
        sat_since=row["sat_since"],
    )


def _invitation(row: Row) -> Invitation:
    return Invitation(
        id=InvitationId(row["id"]),
        organisation_id=OrganisationId(row["organisation_id"]),
        email=EmailAddress(row["email"]),
        role=OrganisationRole(row["role"]),
        token_hash=row["token_hash"],
        invited_by=UserId(row["invited_by"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        accepted_at=row["accepted_at"],
        withdrawn_at=row["withdrawn_at"],
        accepted_by=UserId(row["accepted_by"]) if row["accepted_by"] else None,
    )
