"""The second factor: an authenticator (TOTP, RFC 6238), and recovery codes for its loss."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b32encode
from collections.abc import Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta
from typing import Self

import pyotp

from shared.ids import UserId
from shared.values import dataclass

OTP, RECOVERY = "otp", "recovery"
"""How a person proved who they are, in the words of a token's `amr`."""

LONGEST_OTP = 64

_STEP_SECONDS = 30
_TOTP_CODE = re.compile(r"[0-9]{6}")
_NEVER = -1
# Who scans a code confirms it at once. Later nobody remembers where the secret has been.
_CONFIRMED_WITHIN = timedelta(minutes=15)

_RECOVERY_CODES = 10
_RECOVERY_BYTES = 10
_RECOVERY_CODE = re.compile(r"[a-z2-7]{16}")


@dataclass(frozen=True, slots=True)
class Totp:
    """An authenticator of a user. Until it is confirmed it protects nothing.

    `last_step` is that of the newest code that was taken: neither it nor an older one is good.
    """

    user_id: UserId
    secret: str = field(repr=False)
    created_at: datetime
    confirmed_at: datetime | None = None
    last_step: int = _NEVER

    @classmethod
    def begun(cls, user_id: UserId, at: datetime) -> Self:
        """A new one with 160 random bits, as RFC 4226 recommends."""
        return cls(user_id, pyotp.random_base32(), at)

    @property
    def is_active(self) -> bool:
        return self.confirmed_at is not None

    def can_be_confirmed(self, at: datetime) -> bool:
        return not self.is_active and at < self.created_at + _CONFIRMED_WITHIN

    def confirmed(self, step: int, at: datetime) -> Self:
        return replace(self, confirmed_at=at, last_step=step)

    def step_of(self, code: str, at: datetime) -> int | None:
        """The step whose code this is: the present one, or the one before for slow fingers.

        Compared as typed: the library would also take full-width digits.
        """
        if not is_totp_code(code):
            return None
        totp, now = pyotp.TOTP(self.secret), int(at.timestamp()) // _STEP_SECONDS
        fitting = [
            step
            for step in (now, now - 1)
            if hmac.compare_digest(totp.generate_otp(step), code) and step > self.last_step
        ]
        return fitting[0] if fitting else None

    def uri(self, *, account: str, issuer: str) -> str:
        """What an authenticator scans as a picture."""
        return pyotp.TOTP(self.secret).provisioning_uri(name=account, issuer_name=issuer)


def is_totp_code(text: str) -> bool:
    """Exactly six ASCII digits: nothing is trimmed and nothing translated."""
    return _TOTP_CODE.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class RecoveryCode:
    """80 random bits, shown once, good once."""

    text: str = field(repr=False)

    @classmethod
    def random(cls) -> Self:
        return cls(b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().lower())

    @classmethod
    def parse(cls, typed: str) -> Self | None:
        """Written by hand and typed again: case and hyphens don't matter, nothing else is borne."""
        plain = typed.replace("-", "").lower() if typed.isascii() else ""
        return cls(plain) if _RECOVERY_CODE.fullmatch(plain) else None

    @property
    def shown(self) -> str:
        return "-".join(self.text[start : start + 4] for start in range(0, 16, 4))

    def hash_for(self, user_id: UserId) -> bytes:
        """Bound to its owner, so that one guess can't be tried on all users at once. Not slow:
        a code is random, and trying half of all takes 2^79 hashes."""
        return hashlib.sha256(user_id.bytes + self.text.encode()).digest()


def new_recovery_codes() -> Sequence[RecoveryCode]:
    """Ten of them."""
    return [RecoveryCode.random() for _ in range(_RECOVERY_CODES)]
