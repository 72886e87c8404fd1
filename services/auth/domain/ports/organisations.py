"""Where organisations are kept, with their members and invitations."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import (
    Headcount,
    Invitation,
    InvitationId,
    InvitationToken,
    Member,
    Organisation,
    OrganisationId,
)
from services.auth.domain.user import EmailAddress
from shared.ids import UserId


class Organisations(Protocol):
    """The organisations."""

    async def get(self, organisation_id: OrganisationId) -> Organisation | None: ...

    async def hold(self, organisation_id: OrganisationId) -> Organisation | None:
        """The organisation, whose members, seats and invitations nobody else changes until this
        unit of work ends."""
        ...

    async def add(self, organisation: Organisation) -> None: ...

    async def save(self, organisation: Organisation) -> None: ...

    async def delete(self, organisation_id: OrganisationId) -> None:
        """With its memberships and invitations."""
        ...


class Members(Protocol):
    """Who belongs to which organisation."""

    async def get(self, organisation_id: OrganisationId, user_id: UserId) -> Member | None: ...

    async def of(
        self, organisation_id: OrganisationId, *, after: tuple[datetime, UserId] | None, most: int
    ) -> Sequence[Member]:
        """By when they joined, from the one after `after` on."""
        ...

    async def seated(self, organisation_id: OrganisationId) -> Sequence[Member]:
        """Who has a seat, in no order."""
        ...

    async def who_lost_seats(
        self, organisation_id: OrganisationId, since: datetime
    ) -> Sequence[Member]:
        """Who lost their seat since then because there were fewer, and has none again."""
        ...

    async def with_roles(
        self, organisation_id: OrganisationId, roles: Collection[OrganisationRole]
    ) -> Sequence[Member]:
        """Who has one of these roles, by when they joined."""
        ...

    async def headcount(self, organisation_id: OrganisationId) -> Headcount: ...

    async def has_address(self, organisation_id: OrganisationId, email: EmailAddress) -> bool:
        """Whether a member has proven this address."""
        ...

    async def add(self, member: Member) -> None:
        """Raises InAnOrganisation or AccountGone."""
        ...

    async def save(self, members: Sequence[Member]) -> None:
        """Their role and seat."""
        ...

    async def remove(self, member: Member) -> None:
        """They belong to it no more."""
        ...


class Invitations(Protocol):
    """Invitations, including those that are not open any more but not yet forgotten."""

    async def get(
        self, organisation_id: OrganisationId, invitation_id: InvitationId
    ) -> Invitation | None: ...

    async def shown(self, token: InvitationToken) -> Invitation | None:
        """The one that was mailed with this token, open or not."""
        ...

    async def open_of(
        self,
        organisation_id: OrganisationId,
        at: datetime,
        *,
        before: InvitationId | None,
        most: int,
    ) -> Sequence[Invitation]:
        """The newest first, from the one after `before` on."""
        ...

    async def concerning(
        self,
        user_id: UserId,
        email: EmailAddress | None,
        *,
        before: InvitationId | None,
        most: int,
    ) -> Sequence[Invitation]:
        """Those that a user sent or accepted, and those to an address: the newest first."""
        ...

    async def count_open(self, organisation_id: OrganisationId, at: datetime) -> int: ...

    async def sent_since(
        self, organisation_id: OrganisationId, email: EmailAddress, since: datetime
    ) -> Sequence[datetime]:
        """When this address was invited, the oldest first."""
        ...

    async def add(self, invitation: Invitation) -> None: ...

    async def save(self, invitation: Invitation) -> None: ...

    async def withdraw_to(
        self, organisation_id: OrganisationId, email: EmailAddress, at: datetime
    ) -> None:
        """Withdraw what is open for this address."""
        ...

    async def withdraw_by(
        self,
        organisation_id: OrganisationId,
        inviter: UserId,
        at: datetime,
        *,
        roles: Collection[OrganisationRole],
    ) -> None:
        """Withdraw what this member has offered, where it is one of these roles."""
        ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some of those that had expired by then; answers how many."""
        ...
