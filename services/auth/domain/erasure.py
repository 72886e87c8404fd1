"""An account that exists no more, and which services have forgotten its user."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from typing import Self

from shared.erasure import ErasureId
from shared.ids import UserId
from shared.values import dataclass

SERVICES = ("auth", "keyvault", "chat", "voice", "billing")
"""Who has to forget a user before an erasure is complete."""

LONGEST_RECEIPT = 100
_RECEIPT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a person keeps of a deleted account: the only way to ask about its erasure. We keep its
    hash alone."""

    text: str = field(repr=False)

    @classmethod
    def fresh(cls) -> Self:
        return cls(secrets.token_urlsafe(_RECEIPT_BYTES))

    @property
    def hash(self) -> bytes:
        """Plain SHA-256 is enough: 256 random bits can't be guessed."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Erasure:
    """Of the user only the id is left. `forgotten`: when each service said that it has."""

    id: ErasureId
    user_id: UserId
    receipt_hash: bytes = field(repr=False)
    requested_at: datetime
    completed_at: datetime | None = None
    forgotten: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def missing(self) -> Sequence[str]:
        """The services that have yet to say so."""
        return [service for service in SERVICES if service not in self.forgotten]

    def forgotten_by(self, service: str, at: datetime) -> Self:
        """After a service has said so; the first time counts, and only who is asked."""
        if service not in self.missing:
            return self
        known = replace(self, forgotten={**self.forgotten, service: at})
        return known if known.missing else replace(known, completed_at=at)
