"""Organisations kept in memory, beside the accounts of their members, and builders of some."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from services.auth.domain.errors import InAnOrganisation
from services.auth.domain.membership import Membership, OrganisationRole
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
from services.auth.domain.user import EmailAddress, User
from shared.ids import UserId

if TYPE_CHECKING:
    from tests.support.auth import Memory


def an_organisation(at: datetime, **parts: Any) -> Organisation:
    """An organisation, just founded."""
    return replace(Organisation.founded(OrganisationName("Lovelace & Sons"), at), **parts)


def a_member(
    user: User, organisation: Organisation, role: str, *, since: datetime, seated: bool = True
) -> User:
    """The user as a member of the organisation."""
    place = Membership(
        organisation.id,
        OrganisationRole(role),
        organisation.tier,
        joined_at=since,
        seated_at=since if seated else None,
    )
    return replace(user, membership=place)


class MemoryOrganisations:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def get(self, organisation_id: OrganisationId) -> Organisation | None:
        return self._memory.organisations.get(organisation_id)

    async def hold(self, organisation_id: OrganisationId) -> Organisation | None:
        return self._memory.organisations.get(organisation_id)

    async def add(self, organisation: Organisation) -> None:
        self._memory.organisations[organisation.id] = organisation

    async def save(self, organisation: Organisation) -> None:
        self._memory.organisations[organisation.id] = organisation
        for user in _users_of(self._memory, organisation.id):
            assert user.membership is not None
            _place(self._memory, user, replace(user.membership, tier=organisation.tier))

    async def delete(self, organisation_id: OrganisationId) -> None:
        for user in _users_of(self._memory, organisation_id):
            _place(self._memory, user, None)
        for invitation in list(self._memory.invitations.values()):
            if invitation.organisation_id == organisation_id:
                del self._memory.invitations[invitation.id]
        del self._memory.organisations[organisation_id]


class MemoryMembers:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def get(self, organisation_id: OrganisationId, user_id: UserId) -> Member | None:
        all_ = self._all(organisation_id)
        return next((member for member in all_ if member.user_id == user_id), None)

    async def of(
        self, organisation_id: OrganisationId, *, after: tuple[datetime, UserId] | None, most: int
    ) -> Sequence[Member]:
        found = sorted(self._all(organisation_id), key=lambda m: (m.joined_at, m.user_id))
        return [m for m in found if after is None or (m.joined_at, m.user_id) > after][:most]

    async def seated(self, organisation_id: OrganisationId) -> Sequence[Member]:
        return [member for member in self._all(organisation_id) if member.is_seated]

    async def who_lost_seats(
        self, organisation_id: OrganisationId, since: datetime
    ) -> Sequence[Member]:
        found = [m for m in self._all(organisation_id) if not m.is_seated and m.seat_lost_at]
        return [m for m in found if m.seat_lost_at and m.seat_lost_at > since]

    async def with_roles(
        self, organisation_id: OrganisationId, roles: Collection[OrganisationRole]
    ) -> Sequence[Member]:
        return [member for member in self._all(organisation_id) if member.role in roles]

    async def headcount(self, organisation_id: OrganisationId) -> Headcount:
        found = self._all(organisation_id)
        owners = sum(member.is_owner for member in found)
        return Headcount(len(found), owners, sum(member.is_seated for member in found))

    async def has_address(self, organisation_id: OrganisationId, email: EmailAddress) -> bool:
        users = _users_of(self._memory, organisation_id)
        return any(user.email == email and user.email_verified for user in users)

    async def add(self, member: Member) -> None:
        user = self._memory.accounts[member.user_id]
        if user.membership is not None:
            raise InAnOrganisation
        _place(self._memory, user, self._place_of(member))

    async def save(self, members: Sequence[Member]) -> None:
        for member in members:
            user = self._memory.accounts[member.user_id]
            self._memory.lost_seats[member.user_id] = (member.seat_lost_at, member.sat_since)
            _place(self._memory, user, self._place_of(member))

    async def remove(self, member: Member) -> None:
        _place(self._memory, self._memory.accounts[member.user_id], None)

    def _all(self, organisation_id: OrganisationId) -> Sequence[Member]:
        return [
            replace(_member_of(user), seat_lost_at=lost_at, sat_since=since)
            for user in _users_of(self._memory, organisation_id)
            for lost_at, since in [self._memory.lost_seats.get(user.id, (None, None))]
        ]

    def _place_of(self, member: Member) -> Membership:
        organisation = self._memory.organisations[member.organisation_id]
        return Membership(
            member.organisation_id,
            member.role,
            organisation.tier,
            joined_at=member.joined_at,
            seated_at=member.seated_at,
        )


class MemoryInvitations:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def get(
        self, organisation_id: OrganisationId, invitation_id: InvitationId
    ) -> Invitation | None:
        found = self._memory.invitations.get(invitation_id)
        return found if found is not None and found.organisation_id == organisation_id else None

    async def shown(self, token: InvitationToken) -> Invitation | None:
        all_ = self._memory.invitations.values()
        return next((one for one in all_ if one.token_hash == token.hash), None)

    async def open_of(
        self,
        organisation_id: OrganisationId,
        at: datetime,
        *,
        before: InvitationId | None,
        most: int,
    ) -> Sequence[Invitation]:
        found = [one for one in self._open(organisation_id, at) if not before or one.id < before]
        return sorted(found, key=lambda one: one.id, reverse=True)[:most]

    async def concerning(
        self,
        user_id: UserId,
        email: EmailAddress | None,
        *,
        before: InvitationId | None,
        most: int,
    ) -> Sequence[Invitation]:
        found = [
            one
            for one in self._memory.invitations.values()
            if (user_id in (one.invited_by, one.accepted_by) or one.email == email)
            and (before is None or one.id < before)
        ]
        return sorted(found, key=lambda one: one.id, reverse=True)[:most]

    async def count_open(self, organisation_id: OrganisationId, at: datetime) -> int:
        return len(self._open(organisation_id, at))

    async def sent_since(
        self, organisation_id: OrganisationId, email: EmailAddress, since: datetime
    ) -> Sequence[datetime]:
        return sorted(
            one.created_at
            for one in self._memory.invitations.values()
            if one.organisation_id == organisation_id
            and one.email == email
            and one.created_at > since
        )

    async def add(self, invitation: Invitation) -> None:
        self._memory.invitations[invitation.id] = invitation

    async def save(self, invitation: Invitation) -> None:
        self._memory.invitations[invitation.id] = invitation

    async def withdraw_to(
        self, organisation_id: OrganisationId, email: EmailAddress, at: datetime
    ) -> None:
        for one in self._open(organisation_id, at):
            if one.email == email:
                await self.save(one.withdrawn(at))

    async def withdraw_by(
        self,
        organisation_id: OrganisationId,
        inviter: UserId,
        at: datetime,
        *,
        roles: Collection[OrganisationRole],
    ) -> None:
        for one in self._open(organisation_id, at):
            if one.invited_by == inviter and one.role in roles:
                await self.save(one.withdrawn(at))

    async def forget_before(self, at: datetime, *, most: int) -> int:
        over = [one.id for one in self._memory.invitations.values() if one.expires_at < at][:most]
        for invitation_id in over:
            del self._memory.invitations[invitation_id]
        return len(over)

    def _open(self, organisation_id: OrganisationId, at: datetime) -> Sequence[Invitation]:
        return [
            one
            for one in self._memory.invitations.values()
            if one.organisation_id == organisation_id and one.is_open(at)
        ]


def _users_of(memory: Memory, organisation_id: OrganisationId) -> Sequence[User]:
    return [
        user
        for user in memory.accounts.values()
        if user.membership is not None and user.membership.organisation_id == organisation_id
    ]


def _place(memory: Memory, user: User, membership: Membership | None) -> None:
    memory.accounts[user.id] = replace(user, membership=membership)


def _member_of(user: User) -> Member:
    place = user.membership
    assert place is not None
    return Member(
        user.id,
        OrganisationId(place.organisation_id),
        place.role,
        place.joined_at,
        place.seated_at,
        user.username,
        user.email,
    )
