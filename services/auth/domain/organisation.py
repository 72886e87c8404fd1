"""Organisations: who belongs to one, what each role may do there, and who gets its seats."""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import NewType, Self
from uuid import UUID

from services.auth.domain.errors import InvalidOrganisationName, OrganisationRoleRequired
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.user import EmailAddress, User, Username
from shared.ids import UserId, uuid7
from shared.tiers import DEFAULT_TIER
from shared.values import dataclass

OrganisationId = NewType("OrganisationId", UUID)
InvitationId = NewType("InvitationId", UUID)

LONGEST_ORGANISATION_NAME = 100
INVITATION_LASTS = timedelta(hours=72)
MOST_OPEN_INVITATIONS = 500
# So that nobody fills a stranger's mailbox from here.
INVITATIONS_TO_ONE_ADDRESS = 3
INVITATIONS_OF_ONE_MEMBER = 200
INVITATIONS_COUNTED_FOR = timedelta(hours=24)
# For so long a seat that was lost to fewer seats comes back with more.
SEAT_COMES_BACK_WITHIN = timedelta(days=30)

_TOKEN_BYTES = 32

FreshProof = Callable[[], Awaitable[object]]
"""Raises unless whoever asks has proved a short while ago who they are."""


class Act(Enum):
    """What may be done in an organisation, in the words of a refusal."""

    SEE_MEMBERS = "see its members"
    INVITE = "invite"
    SEAT = "give and take seats"
    CHANGE_ROLES = "change roles"
    REMOVE = "remove members"
    RENAME = "rename it"
    SEE_AUDIT = "see what happened in it"
    BUY = "see and change its subscription"
    MANAGE_KEYS = "see and change its keys"
    DELETE = "delete it"


_OWNER, _ADMIN = OrganisationRole.OWNER, OrganisationRole.ADMIN
_BILLING, _MEMBER = OrganisationRole.BILLING, OrganisationRole.MEMBER
_MANAGERS = frozenset({_OWNER, _ADMIN})

MAY: Mapping[Act, frozenset[OrganisationRole]] = MappingProxyType(
    {
        Act.SEE_MEMBERS: _MANAGERS | {_BILLING},
        Act.INVITE: _MANAGERS,
        Act.SEAT: _MANAGERS,
        Act.CHANGE_ROLES: _MANAGERS,
        Act.REMOVE: _MANAGERS,
        Act.RENAME: _MANAGERS,
        Act.SEE_AUDIT: _MANAGERS,
        Act.BUY: _MANAGERS | {_BILLING},
        Act.MANAGE_KEYS: _MANAGERS,
        Act.DELETE: frozenset({_OWNER}),
    }
)
"""Who may do what."""

RULES: Mapping[OrganisationRole, frozenset[OrganisationRole]] = MappingProxyType(
    {
        _OWNER: frozenset(OrganisationRole),
        _ADMIN: frozenset(OrganisationRole) - {_OWNER},
        _BILLING: frozenset(),
        _MEMBER: frozenset(),
    }
)
"""Which roles each role may give, take away and remove: only owners make and unmake owners."""


@dataclass(frozen=True, slots=True)
class OrganisationName:
    """A name as people write it. Two organisations may have the same."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidOrganisationName."""
        name = unicodedata.normalize("NFC", text)
        if (
            not 1 <= len(name) <= LONGEST_ORGANISATION_NAME
            or not name.isprintable()
            or name != name.strip()
        ):
            raise InvalidOrganisationName
        return cls(name)


@dataclass(frozen=True, slots=True)
class Organisation:
    """People who share a subscription. `tier` and `seats` are what billing sold last, `next_seats`
    what was ordered from the next period on."""

    id: OrganisationId
    name: OrganisationName
    created_at: datetime
    updated_at: datetime
    tier: str = DEFAULT_TIER.name
    seats: int = 1
    subscription_revision: int = 0
    next_seats: int | None = None

    @property
    def seats_to_give(self) -> int:
        """On how many people may sit: nobody is seated who would lose the seat at the period's
        end."""
        return min(self.seats, self.next_seats or self.seats)

    @classmethod
    def founded(cls, name: OrganisationName, at: datetime) -> Self:
        """A new one, with the smallest tier and a seat for its founder."""
        return cls(OrganisationId(uuid7()), name, at, at)

    def renamed(self, name: OrganisationName, at: datetime) -> Self:
        return replace(self, name=name, updated_at=at)

    def subscribed(
        self, tier: str, seats: int, revision: int, at: datetime, *, next_seats: int | None = None
    ) -> Self:
        """With another subscription; itself when a later one is known already."""
        if revision <= self.subscription_revision:
            return self
        return replace(
            self,
            tier=tier,
            seats=seats,
            next_seats=next_seats,
            subscription_revision=revision,
            updated_at=at,
        )


@dataclass(frozen=True, slots=True)
class Headcount:
    """How many belong to an organisation."""

    members: int
    owners: int
    seated: int


@dataclass(frozen=True, slots=True)
class Member:
    """A user as their organisation sees them. The names are read along, kept elsewhere.

    `seat_lost_at`: when they lost their seat because there were fewer; `sat_since`: since when they
    had sat there.
    """

    user_id: UserId
    organisation_id: OrganisationId
    role: OrganisationRole
    joined_at: datetime
    seated_at: datetime | None
    username: Username
    email: EmailAddress
    seat_lost_at: datetime | None = None
    sat_since: datetime | None = None

    @classmethod
    def joining(
        cls, organisation_id: OrganisationId, user: User, role: OrganisationRole, at: datetime
    ) -> Self:
        """A new member, who has no seat yet."""
        return cls(user.id, organisation_id, role, at, None, user.username, user.email)

    @property
    def is_owner(self) -> bool:
        return self.role is OrganisationRole.OWNER

    @property
    def is_seated(self) -> bool:
        return self.seated_at is not None

    def may(self, act: Act) -> bool:
        return self.role in MAY[act]

    def require(self, act: Act) -> None:
        """Raises OrganisationRoleRequired."""
        if not self.may(act):
            roles = sorted(role.value for role in MAY[act])
            raise OrganisationRoleRequired(act.value, roles)

    def require_rule_over(self, role: OrganisationRole) -> None:
        """Raises OrganisationRoleRequired unless this member may give and take that role."""
        if role not in RULES[self.role]:
            roles = sorted(ruler.value for ruler, ruled in RULES.items() if role in ruled)
            raise OrganisationRoleRequired(f"decide who is {role.value}", roles)

    def with_role(self, role: OrganisationRole) -> Self:
        return replace(self, role=role)

    def seated(self, at: datetime) -> Self:
        """With a seat; who has one keeps it and its date."""
        return self if self.is_seated else self._sitting_since(at)

    def without_seat(self) -> Self:
        """As somebody has decided, so that it does not come back by itself."""
        return self._sitting_since(None)

    def losing_seat(self, at: datetime) -> Self:
        """Since there are fewer seats; it comes back with them."""
        return replace(self, seated_at=None, seat_lost_at=at, sat_since=self.seated_at)

    def with_seat_back(self) -> Self:
        """As if they had sat there all the time."""
        return self._sitting_since(self.sat_since)

    def _sitting_since(self, at: datetime | None) -> Self:
        return replace(self, seated_at=at, seat_lost_at=None, sat_since=None)


def losing_their_seats(seated: Iterable[Member], seats: int) -> Sequence[Member]:
    """Who has to stand up when there are only so many seats: who sat down last goes first, and
    owners go last, so that somebody is left to put things right."""

    def claim(member: Member) -> tuple[bool, datetime, UserId]:
        assert member.seated_at is not None
        return (not member.is_owner, member.seated_at, member.user_id)

    return sorted(seated, key=claim)[seats:]


def getting_seats_back(lost: Iterable[Member], free: int) -> Sequence[Member]:
    """Who sits down again when so many seats are free: owners, then who sat there first."""

    def claim(member: Member) -> tuple[bool, datetime, UserId]:
        assert member.sat_since is not None
        return (not member.is_owner, member.sat_since, member.user_id)

    return sorted(lost, key=claim)[: max(0, free)]


@dataclass(frozen=True, slots=True)
class InvitationToken:
    """What the invited find in their mail; we keep its hash alone."""

    text: str = field(repr=False)

    @classmethod
    def fresh(cls) -> Self:
        return cls(secrets.token_urlsafe(_TOKEN_BYTES))

    @property
    def hash(self) -> bytes:
        """Plain SHA-256 is enough: 256 random bits can't be guessed."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Invitation:
    """An offer to whoever reads the mail of one address. Good once, for three days."""

    id: InvitationId
    organisation_id: OrganisationId
    email: EmailAddress
    role: OrganisationRole
    token_hash: bytes = field(repr=False)
    invited_by: UserId
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None = None
    withdrawn_at: datetime | None = None
    accepted_by: UserId | None = None

    @classmethod
    def to(
        cls,
        email: EmailAddress,
        role: OrganisationRole,
        token: InvitationToken,
        *,
        by: Member,
        at: datetime,
    ) -> Self:
        return cls(
            id=InvitationId(uuid7()),
            organisation_id=by.organisation_id,
            email=email,
            role=role,
            token_hash=token.hash,
            invited_by=by.user_id,
            created_at=at,
            expires_at=at + INVITATION_LASTS,
        )

    def is_open(self, at: datetime) -> bool:
        """Neither accepted, nor withdrawn or replaced, nor expired."""
        return self.accepted_at is None and self.withdrawn_at is None and at < self.expires_at

    def accepted(self, at: datetime, *, by: UserId) -> Self:
        return replace(self, accepted_at=at, accepted_by=by)

    def withdrawn(self, at: datetime) -> Self:
        return replace(self, withdrawn_at=at)


@dataclass(frozen=True, slots=True)
class Entered:
    """The organisation, and what whoever acts is there at this moment, whatever a token claims."""

    organisation: Organisation
    actor: Member
