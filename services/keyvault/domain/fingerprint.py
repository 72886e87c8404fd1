"""A keyed fingerprint: tells whether an owner stores the same key again, and nothing to others.

The owner is part of it, so a reader of the database can't see that two accounts share a key, and
can't find a leaked key in it either.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from uuid import UUID

from services.keyvault.domain.fields import encode_fields
from shared.values import dataclass

_KEPT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The fingerprint of a secret, and the version of the key that made it."""

    version: int
    digest: bytes

    def equals(self, other: Fingerprint) -> bool:
        """Whether both are of one secret, compared in constant time."""
        return self.version == other.version and hmac.compare_digest(self.digest, other.digest)


@dataclass(frozen=True, slots=True, repr=False)
class FingerprintKeys:
    """The keys of fingerprints by version; the newest makes new ones."""

    by_version: Mapping[int, bytes]

    @property
    def active(self) -> int:
        return max(self.by_version)

    def __repr__(self) -> str:
        return f"<FingerprintKeys with versions {sorted(self.by_version)}>"


def fingerprint_of(
    secret: str, *, owner_id: UUID, provider: str, key: bytes, version: int
) -> Fingerprint:
    """HMAC-SHA256 over owner, provider and secret, cut to 16 bytes."""
    message = encode_fields(owner_id, provider, secret)
    return Fingerprint(version, hmac.new(key, message, hashlib.sha256).digest()[:_KEPT_BYTES])
