"""A sign-in: one user on one device, and the one refresh token that is good at a time."""

from __future__ import annotations

import secrets
from dataclasses import field, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import NewType, Self
from uuid import UUID

from services.auth.domain.user import User
from shared.ids import UserId, uuid7
from shared.scopes import of_sign_in
from shared.values import dataclass

SignInId = NewType("SignInId", UUID)

# An access token lives for 15 minutes whatever becomes of its session; and clocks may differ.
ACCESS_OUTLIVES_SESSION = timedelta(minutes=16)

PASSWORD = "pwd"  # noqa: S105 - how somebody proved who they are

_SALT_BYTES = 16
_LONGEST_DEVICE = 200


class EndReason(StrEnum):
    """Why a sign-in ended before its time."""

    SIGNED_OUT = "signed_out"
    ENDED_BY_OWNER = "ended_by_owner"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a reason
    REFRESH_REUSED = "refresh_reused"
    RESTORED = "restored"
    CODE_REUSED = "code_reused"
    CLIENT_DISABLED = "client_disabled"
    SECOND_FACTOR_CHANGED = "second_factor_changed"
    ACCOUNT_DISABLED = "account_disabled"
    ROLE_CHANGED = "role_changed"


class Verdict(Enum):
    """What a genuine refresh token of this sign-in deserves."""

    ROTATE = "rotate"
    REPEAT = "repeat"
    REUSED = "reused"
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True)
class Proof:
    """How and when a person proved who they are: `pwd`, `otp`, `recovery` (RFC 8176)."""

    at: datetime
    methods: frozenset[str]


@dataclass(frozen=True, slots=True)
class SignInLifetimes:
    """How long a sign-in lasts unused, at most, and how long the last answer may be repeated."""

    idle: timedelta
    absolute: timedelta
    grace: timedelta


@dataclass(frozen=True, slots=True)
class SignIn:
    """The row behind a family of refresh tokens.

    It keeps a counter and a salt instead of a token, so that who reads the database can't forge
    one, and the successor can be computed again for a client that lost our answer.
    """

    id: SignInId
    user_id: UserId
    device: str
    salt: bytes = field(repr=False)
    pepper_version: int
    counter: int
    created_at: datetime
    rotated_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    # When and how the person last proved who they are (RFC 8176 names the ways).
    authenticated_at: datetime = field(kw_only=True)
    methods: frozenset[str] = field(kw_only=True)
    client_id: str | None = field(default=None, kw_only=True)
    # What the client asked for; None is all that its user may do.
    scopes: frozenset[str] | None = field(default=None, kw_only=True)

    @classmethod
    def begun(
        cls,
        user_id: UserId,
        *,
        device: str,
        pepper_version: int,
        proof: Proof,
        client_id: str | None = None,
        scopes: frozenset[str] | None = None,
        at: datetime,
        lifetimes: SignInLifetimes,
    ) -> Self:
        """A new sign-in on a device that calls itself `device`."""
        printable = "".join(character for character in device if character.isprintable())
        return cls(
            id=SignInId(uuid7()),
            user_id=user_id,
            device=printable[:_LONGEST_DEVICE],
            salt=secrets.token_bytes(_SALT_BYTES),
            pepper_version=pepper_version,
            counter=0,
            created_at=at,
            rotated_at=at,
            expires_at=at + min(lifetimes.idle, lifetimes.absolute),
            authenticated_at=proof.at,
            methods=proof.methods,
            client_id=client_id,
            scopes=scopes,
        )

    def belongs_to(self, user_id: UserId) -> bool:
        return self.user_id == user_id

    def is_live(self, at: datetime) -> bool:
        """Neither ended nor expired."""
        return self.ended_at is None and at < self.expires_at

    def scopes_of(self, user: User) -> frozenset[str]:
        """What its user, whose role may have changed, may do in it."""
        allowed = of_sign_in(user.role)
        return allowed if self.scopes is None else allowed & self.scopes

    def verdict_on(self, counter: int, at: datetime, lifetimes: SignInLifetimes) -> Verdict:
        """Judge a token by its counter.

        The immediate parent is forgiven for a moment, since its reply may have been lost or two
        tabs may have asked at once; any other that is behind has been stolen. One that is ahead we
        made in a time that a restored backup has undone. It is no replay, and not to be believed:
        the backup has undone, too, which of those later tokens were stolen or ended.
        """
        if counter > self.counter:
            return Verdict.AHEAD
        if counter == self.counter:
            return Verdict.ROTATE
        if counter == self.counter - 1 and at - self.rotated_at <= lifetimes.grace:
            return Verdict.REPEAT
        return Verdict.REUSED

    def proven_again(self, proof: Proof) -> Self:
        """The sign-in after its person has proven once more who they are."""
        return replace(self, authenticated_at=proof.at, methods=proof.methods)

    def rotated(self, at: datetime, lifetimes: SignInLifetimes) -> Self:
        """The sign-in after its current token was exchanged."""
        return replace(
            self,
            counter=self.counter + 1,
            rotated_at=at,
            expires_at=min(at + lifetimes.idle, self.created_at + lifetimes.absolute),
        )
