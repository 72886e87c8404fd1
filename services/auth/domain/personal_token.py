"""Personal access tokens: what a user gives to a tool so that it may act in their name.

    ttc_ ‖ 256 random bits, 43 characters of base 62 ‖ CRC-32 of all before it, 6 characters

The fixed prefix and the check sum let us refuse a mistyped token without asking the database, and
let anybody who scans published code recognise one.
"""

from __future__ import annotations

import hashlib
import secrets
import string
import zlib
from collections.abc import Collection
from dataclasses import field
from datetime import datetime, timedelta
from typing import NewType, Self
from uuid import UUID

from services.auth.domain.errors import (
    InvalidTokenLifetime,
    InvalidTokenName,
    PersonalTokenRefused,
    ScopeNotGrantable,
    ScopeNotHeld,
)
from services.auth.domain.sign_in import SignIn
from services.auth.domain.user import User
from shared.ids import UserId, uuid7
from shared.scopes import grantable
from shared.values import dataclass

PersonalTokenId = NewType("PersonalTokenId", UUID)

PREFIX = "ttc_"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_BITS = 256
_RANDOM_LENGTH, _CHECK_LENGTH, _HINT_LENGTH = 43, 6, 4
TOKEN_LENGTH = len(PREFIX) + _RANDOM_LENGTH + _CHECK_LENGTH

MOST_LIVE_TOKENS = 50
LONGEST_NAME = 100
LONGEST_LIFETIME = timedelta(days=365)
# One exchange is good for so long, should a service keep what it was given.
EXCHANGED_LIFETIME = timedelta(minutes=5)
_USE_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class TokenText:
    """The token itself, as its holder shows it. We keep its hash and its last characters."""

    text: str = field(repr=False)

    @classmethod
    def made(cls) -> Self:
        """A new one, which nobody can guess."""
        body = PREFIX + _base62(secrets.randbits(_RANDOM_BITS), _RANDOM_LENGTH)
        return cls(body + _check_sum(body))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises PersonalTokenRefused for whatever `made` can't have made."""
        if len(text) != TOKEN_LENGTH or not text.startswith(PREFIX) or not text.isascii():
            raise PersonalTokenRefused
        if _check_sum(text[:-_CHECK_LENGTH]) != text[-_CHECK_LENGTH:]:
            raise PersonalTokenRefused
        return cls(text)

    @property
    def hash(self) -> bytes:
        """What is kept. A fast hash will do: nobody tries out 256 random bits."""
        return hashlib.sha256(self.text.encode()).digest()

    @property
    def hint(self) -> str:
        """Enough for its owner to tell two of their tokens apart."""
        return self.text[-_HINT_LENGTH:]


def _check_sum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits


@dataclass(frozen=True, slots=True)
class PersonalToken:
    """What we know of a token: everything but the token."""

    id: PersonalTokenId
    user_id: UserId
    name: str
    token_hash: bytes = field(repr=False)
    hint: str
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    # In whose sign-in it was made; None in one of our own.
    client_id: str | None = None

    @classmethod
    def issued(
        cls,
        text: TokenText,
        *,
        to: User,
        within: SignIn,
        name: str,
        scopes: Collection[str],
        lifetime: timedelta,
        at: datetime,
    ) -> Self:
        """It gives away no more than `within` may do itself.

        Raises InvalidTokenName, InvalidTokenLifetime, ScopeNotGrantable or ScopeNotHeld.
        """
        name = name.strip()
        if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
            raise InvalidTokenName
        if not timedelta(0) < lifetime <= LONGEST_LIFETIME:
            raise InvalidTokenLifetime
        offered = grantable(to.role)
        if not scopes or not set(scopes) <= offered:
            raise ScopeNotGrantable(sorted(offered))
        if lacking := set(scopes) - within.scopes_of(to):
            raise ScopeNotHeld(sorted(lacking))
        return cls(
            id=PersonalTokenId(uuid7()),
            user_id=to.id,
            name=name,
            token_hash=text.hash,
            hint=text.hint,
            scopes=frozenset(scopes),
            created_at=at,
            expires_at=at + lifetime,
            client_id=within.client_id,
        )

    def belongs_to(self, user_id: UserId) -> bool:
        return self.user_id == user_id

    def is_live(self, at: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and at < self.expires_at

    def scopes_for(self, owner: User, at: datetime) -> frozenset[str]:
        """What it may be used for now: nothing once it is over, nor while its owner is locked out,
        and never more than the owner could grant today."""
        if not self.is_live(at) or not owner.is_active:
            return frozenset()
        return self.scopes & grantable(owner.role)

    def use_is_worth_noting(self, at: datetime) -> bool:
        """Whether the last noted use is so long ago that a write is justified."""
        return self.last_used_at is None or at - self.last_used_at >= _USE_NOTED_EVERY

    def exchanged_lifetime(self, at: datetime) -> timedelta:
        """How long an access token may live that stands for this one: not longer than it does."""
        return min(EXCHANGED_LIFETIME, self.expires_at - at)


@dataclass(frozen=True, slots=True)
class PresentedToken:
    """A token that somebody shows, and the user in whose name."""

    token: PersonalToken
    owner: User
