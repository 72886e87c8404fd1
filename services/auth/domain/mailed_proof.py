"""What only somebody can show who reads the mail of an address."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from services.auth.domain.user import EmailAddress
from shared.ids import UserId
from shared.values import dataclass

_TOKEN_BYTES = 32


class ProofPurpose(StrEnum):
    """What a proof is good for; good for one thing, it is no good for another."""

    VERIFY_EMAIL = "verify_email"
    CHANGE_EMAIL = "change_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - a purpose


EVERY_PURPOSE = frozenset(ProofPurpose)
OPEN_THE_ACCOUNT = frozenset({ProofPurpose.RESET_PASSWORD, ProofPurpose.CHANGE_EMAIL})
"""With these somebody else can have the account: what its owner does against that voids them."""

LIFETIMES: Mapping[ProofPurpose, timedelta] = {
    ProofPurpose.VERIFY_EMAIL: timedelta(days=3),
    ProofPurpose.CHANGE_EMAIL: timedelta(days=1),
    ProofPurpose.RESET_PASSWORD: timedelta(minutes=20),
}


@dataclass(frozen=True, slots=True)
class ProofToken:
    """The secret in a mail. Made when the mail is sent, and never kept."""

    text: str = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        return cls(secrets.token_urlsafe(_TOKEN_BYTES))

    @property
    def hash(self) -> bytes:
        """What is kept. A plain hash: nobody guesses 256 random bits."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class MailedProof:
    """One token that is on its way: whose it is, and which address it proves."""

    token_hash: bytes = field(repr=False)
    purpose: ProofPurpose
    user_id: UserId
    email: EmailAddress
    created_at: datetime
    expires_at: datetime

    @classmethod
    def issued(
        cls,
        token: ProofToken,
        purpose: ProofPurpose,
        user_id: UserId,
        email: EmailAddress,
        at: datetime,
    ) -> Self:
        return cls(token.hash, purpose, user_id, email, at, at + LIFETIMES[purpose])
