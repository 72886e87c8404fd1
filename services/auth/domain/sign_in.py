"""A sign-in: one user on one device, and the one refresh token that is good at a time."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import NewType, Self
from uuid import UUID

from shared.ids import UserId, uuid7

SignInId = NewType("SignInId", UUID)

_SALT_BYTES = 16
_LONGEST_DEVICE = 200


class EndReason(StrEnum):
    """Why a sign-in ended before its time."""

    SIGNED_OUT = "signed_out"
    ENDED_BY_OWNER = "ended_by_owner"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a reason
    REFRESH_REUSED = "refresh_reused"


class Verdict(Enum):
    """What a genuine refresh token of this sign-in deserves."""

    ROTATE = "rotate"
    REPEAT = "repeat"
    REUSED = "reused"


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

    @classmethod
    def begun(
        cls,
        user_id: UserId,
        *,
        device: str,
        pepper_version: int,
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
        )

    def belongs_to(self, user_id: UserId) -> bool:
        return self.user_id == user_id

    def is_live(self, at: datetime) -> bool:
        """Neither ended nor expired."""
        return self.ended_at is None and at < self.expires_at

    def verdict_on(self, counter: int, at: datetime, lifetimes: SignInLifetimes) -> Verdict:
        """Judge a token by its counter.

        The immediate parent is forgiven for a moment, since its reply may have been lost or two
        tabs may have asked at once; anything else that is not current has been stolen.
        """
        if counter == self.counter:
            return Verdict.ROTATE
        if counter == self.counter - 1 and at - self.rotated_at <= lifetimes.grace:
            return Verdict.REPEAT
        return Verdict.REUSED

    def rotated(self, at: datetime, lifetimes: SignInLifetimes) -> Self:
        """The sign-in after its current token was exchanged."""
        return replace(
            self,
            counter=self.counter + 1,
            rotated_at=at,
            expires_at=min(at + lifetimes.idle, self.created_at + lifetimes.absolute),
        )
