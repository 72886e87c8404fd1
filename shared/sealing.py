"""Secrets that a service must be able to read again, kept sealed.

Format: key version, 4 bytes ‖ nonce, 12 bytes ‖ ciphertext and tag of AES-256-GCM. What the secret
is and whose it is go in as associated data, so that a row copied elsewhere does not open there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION_BYTES, _NONCE_BYTES = 4, 12


class Unsealable(ValueError):
    """Not sealed by us, not for this purpose or owner, or by a key that is gone."""


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals with the newest key, opens with any that is still there."""

    keys: Mapping[int, bytes] = field(repr=False)

    def seal(self, purpose: str, owner: UUID, secret: bytes) -> bytes:
        version = max(self.keys)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self.keys[version]).encrypt(nonce, secret, _binding(purpose, owner))
        return version.to_bytes(_VERSION_BYTES, "big") + nonce + sealed

    def open(self, purpose: str, owner: UUID, sealed: bytes) -> bytes:
        """Raises Unsealable."""
        version = int.from_bytes(sealed[:_VERSION_BYTES], "big")
        nonce = sealed[_VERSION_BYTES : _VERSION_BYTES + _NONCE_BYTES]
        body = sealed[_VERSION_BYTES + _NONCE_BYTES :]
        if version not in self.keys or len(nonce) != _NONCE_BYTES:
            raise Unsealable
        try:
            return AESGCM(self.keys[version]).decrypt(nonce, body, _binding(purpose, owner))
        except InvalidTag as error:
            raise Unsealable from error


def _binding(purpose: str, owner: UUID) -> bytes:
    # The owner has a fixed length and comes first, so that no two pairs read the same.
    return owner.bytes + purpose.encode()
