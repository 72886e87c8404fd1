"""Secrets that a service must be able to read again, kept sealed.

Format: key version, 4 bytes ‖ nonce, 12 bytes ‖ ciphertext and tag of AES-256-GCM. What the secret
is and whose it is go in as associated data, so that a row copied elsewhere does not open there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import field
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.values import dataclass

_VERSION_BYTES, _NONCE_BYTES = 4, 12


class KeysByVersion(dict[int, bytes]):
    """Keys of which some are not for use yet: everybody must know one before anybody seals with
    it. What it has sealed it opens from the first moment on."""

    def __init__(self, keys: Mapping[int, bytes], use_from: Mapping[int, float]) -> None:
        super().__init__(keys)
        self.use_from = use_from

    @classmethod
    def of(cls, keys: Mapping[int, bytes], entries: list[Mapping[str, Any]]) -> KeysByVersion:
        """With the moments that a file's entries name, in Unix seconds. Raises ValueError."""
        return cls(keys, {int(e["version"]): float(e["from"]) for e in entries if "from" in e})

    def __repr__(self) -> str:
        return f"<keys {sorted(self)}>"


def newest(keys: Mapping[int, bytes]) -> int:
    """The version for what is new: the highest whose time has come."""
    waiting = keys.use_from if isinstance(keys, KeysByVersion) else {}
    now = time.time()
    return max([version for version in keys if waiting.get(version, 0) <= now] or keys)


class Unsealable(ValueError):
    """Not sealed by us, not for this purpose or owner, or by a key that is gone."""


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals with the newest key, opens with any that is still there."""

    keys: Mapping[int, bytes] = field(repr=False)

    def seal(self, purpose: str, owner: UUID, secret: bytes) -> bytes:
        version = newest(self.keys)
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
