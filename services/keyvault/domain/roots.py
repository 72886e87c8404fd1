"""What everything in the vault hangs from, proven against the canaries."""

from __future__ import annotations

from services.keyvault.domain.fingerprint import FingerprintKeys
from services.keyvault.domain.key_encryption import KeyEncryption
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Roots:
    """The key-encryption keys and the keys of fingerprints; `environment` is part of every seal."""

    kek: KeyEncryption
    environment: str
    fingerprints: FingerprintKeys


@dataclass(frozen=True, slots=True)
class SealedRoot:
    """A root that lies in the database, wrapped by a key service."""

    purpose: str
    version: int
    kek_version: int
    envelope: bytes
