"""A user, and the two names that lead to them: e-mail address and username."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Self

import email_validator

from services.auth.domain.errors import InvalidEmail, InvalidUsername
from services.auth.domain.membership import Membership
from services.auth.domain.password import PasswordHash
from shared.ids import UserId, uuid7
from shared.tiers import DEFAULT_TIER, tier_named
from shared.values import dataclass

LONGEST_EMAIL = 254
LONGEST_USERNAME = 80

# What `str.isprintable` lets pass and nobody sees: the rest of Default_Ignorable_Code_Point, as
# Unicode calls it, the fillers of Hangul among them, and two blanks that are no spaces.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef\u2800\U0001d159]"
)

# A domain is proven by a mail that arrives, not by its name: an intranet may well use `.local`.
# The library documents changing this list as the way to say so.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


class Role(StrEnum):
    """What a user is to the operator of this installation."""

    MEMBER = "member"
    OPERATOR = "operator"
    BILLING = "billing"


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """An address in the one spelling under which it is unique: lower case, Unicode NFC."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidEmail."""
        try:
            found = email_validator.validate_email(
                text, strict=True, check_deliverability=False, globally_deliverable=False
            )
        except (email_validator.EmailNotValidError, UnicodeError) as error:
            raise InvalidEmail from error
        address = unicodedata.normalize("NFC", found.normalized.lower())
        if "." not in found.ascii_domain or len(address) > LONGEST_EMAIL:
            raise InvalidEmail
        return cls(address)

    @property
    def local_part(self) -> str:
        return self.text.rpartition("@")[0]


@dataclass(frozen=True, slots=True)
class Username:
    """A name as its user writes it; `key` is what must be unique."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidUsername."""
        name = cls(unicodedata.normalize("NFC", text))
        # No @: a login with one is an e-mail address. Checked on the key, into which look-alikes
        # such as the full-width @ are folded.
        if (
            not 1 <= len(name.text) <= LONGEST_USERNAME
            or not name.text.isprintable()
            or name.text != name.text.strip()
            or "@" in name.key
        ):
            raise InvalidUsername
        return name

    @classmethod
    def chosen(cls, text: str) -> Self:
        """`parse` for a name that somebody takes from now on: nothing in it is invisible, or two
        names would look the same. Older ones go on signing in. Raises InvalidUsername."""
        name = cls.parse(text)
        if _INVISIBLE.search(name.text):
            raise InvalidUsername
        return name

    @property
    def key(self) -> str:
        """The same for spellings that differ in case or in compatibility forms only."""
        folded = unicodedata.normalize("NFKC", self.text).casefold()
        return unicodedata.normalize("NFKC", folded)


@dataclass(frozen=True, slots=True)
class User:
    """An account. `tier_revision` is that of the subscription which gave it its tier."""

    id: UserId
    email: EmailAddress
    username: Username
    password: PasswordHash
    created_at: datetime
    updated_at: datetime
    password_changed_at: datetime
    tier: str = DEFAULT_TIER.name
    tier_revision: int = 0
    role: Role = Role.MEMBER
    is_active: bool = True
    email_verified: bool = False
    last_signed_in_at: datetime | None = None
    # Read along with the user, kept elsewhere.
    membership: Membership | None = None
    has_second_factor: bool = False

    @property
    def effective_tier(self) -> str:
        """The higher of what the user has paid for and what their organisation has."""
        if self.membership is None or not self.membership.is_seated:
            return self.tier
        return max((self.tier, self.membership.tier), key=lambda name: tier_named(name).rank)

    @classmethod
    def registered(
        cls, email: EmailAddress, username: Username, password: PasswordHash, at: datetime
    ) -> Self:
        """A new account of the smallest tier."""
        return cls(UserId(uuid7()), email, username, password, at, at, at)

    def as_staff(self, role: Role) -> Self:
        """The account of somebody who runs this installation, vouched for by its console."""
        return replace(self, role=role, email_verified=True)

    def with_role(self, role: Role, at: datetime) -> Self:
        return replace(self, role=role, updated_at=at)

    def disabled(self, at: datetime) -> Self:
        """The account, into which nobody gets."""
        return replace(self, is_active=False, updated_at=at)

    def enabled(self, at: datetime) -> Self:
        return replace(self, is_active=True, updated_at=at)

    def signed_in(self, at: datetime) -> Self:
        return replace(self, last_signed_in_at=at)

    def renamed(self, username: Username, at: datetime) -> Self:
        return replace(self, username=username, updated_at=at)

    def verified(self, at: datetime) -> Self:
        """The account whose owner has proven to read the mail of its address."""
        return replace(self, email_verified=True, updated_at=at)

    def moved_to(self, email: EmailAddress, at: datetime) -> Self:
        """The account with another address, which its owner has proven."""
        return replace(self, email=email, email_verified=True, updated_at=at)

    def with_password(self, password: PasswordHash, at: datetime) -> Self:
        return replace(self, password=password, updated_at=at, password_changed_at=at)

    def rehashed(self, password: PasswordHash) -> Self:
        """The same password under today's parameters."""
        return replace(self, password=password)

    def has_password_of(self, seen: User) -> bool:
        """Whether the password is still the one that this user was seen with, however hashed."""
        return self.id == seen.id and self.password_changed_at == seen.password_changed_at


@dataclass(frozen=True, slots=True)
class LoginName:
    """What somebody typed to say who they are; it may name nobody."""

    email: EmailAddress | None
    username: Username | None
    spelling: str
    """The text without the differences that don't matter, for counting attempts."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Never fails: an impossible name is the name of nobody."""
        text = text.strip()
        try:
            if "@" in text:
                email = EmailAddress.parse(text)
                return cls(email, None, email.text)
            username = Username.parse(text)
            return cls(None, username, username.key)
        except (InvalidEmail, InvalidUsername):
            return cls(None, None, Username(text).key)
