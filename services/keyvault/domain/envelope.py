"""The envelope: AES-256-GCM under a key, bound to what the content is and whose it is.

    kv1 | algorithm (1 byte) | name of the key | nonce (12 bytes) | ciphertext and tag

A data key lies in an envelope under a key of the keyring (its name: 4 bytes of version), a secret
in one under its owner's data key (its name: the 16 bytes of its id). What was sealed once must open
for ever: a new layout gets a new format name beside this one.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.keyvault.domain.fields import encode_fields
from shared.values import dataclass

KEY_BYTES = 32
_FORMAT = b"kv1"
_AES_256_GCM = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16


class NotAuthentic(Exception):
    """What is stored was not sealed by us for this place: changed, moved, or under another key."""


class Place(Protocol):
    """What a content is bound to: it opens here and nowhere else."""

    @property
    def key_name(self) -> bytes:
        """Which key sealed it, as the envelope's head tells."""
        ...

    @property
    def bound_to(self) -> bytes:
        """The additional authenticated data."""
        ...


class _UnderKek(ABC):
    """A place right under a version of the key-encryption key."""

    __slots__ = ()

    kek_version: int

    @property
    @abstractmethod
    def context(self) -> Mapping[str, str]:
        """The parts by name, in the order in which they are bound."""

    @property
    def key_name(self) -> bytes:
        return self.kek_version.to_bytes(4, "big")

    @property
    def bound_to(self) -> bytes:
        return encode_fields(*self.context.values())


@dataclass(frozen=True, slots=True)
class DataKeyPlace(_UnderKek):
    """Where a data key lies."""

    environment: str
    owner_type: str
    owner_id: UUID
    data_key_id: UUID
    kek_version: int

    @property
    def context(self) -> Mapping[str, str]:
        return {
            "purpose": "kv1.dek",
            "environment": self.environment,
            "owner_type": self.owner_type,
            "owner_id": str(self.owner_id),
            "data_key_id": str(self.data_key_id),
            "kek_version": str(self.kek_version),
        }


@dataclass(frozen=True, slots=True)
class SecretPlace:
    """Where a user's secret lies."""

    environment: str
    owner_id: UUID
    data_key_id: UUID
    secret_id: UUID
    provider: str
    secret_version: int

    @property
    def key_name(self) -> bytes:
        return self.data_key_id.bytes

    @property
    def bound_to(self) -> bytes:
        return encode_fields(
            "kv1.sec",
            self.environment,
            self.owner_id,
            self.data_key_id,
            self.secret_id,
            self.provider,
            self.secret_version,
        )


@dataclass(frozen=True, slots=True)
class CanaryPlace(_UnderKek):
    """Where the canary of a version of the keyring lies."""

    environment: str
    kek_version: int

    @property
    def context(self) -> Mapping[str, str]:
        return {
            "purpose": "kv1.canary",
            "environment": self.environment,
            "kek_version": str(self.kek_version),
        }


@dataclass(frozen=True, slots=True)
class RootPlace(_UnderKek):
    """Where a root lies that is kept in the database, wrapped by a key service."""

    environment: str
    purpose: str
    version: int
    kek_version: int

    @property
    def context(self) -> Mapping[str, str]:
        return {
            "purpose": "kv1.root",
            "environment": self.environment,
            "root": self.purpose,
            "root_version": str(self.version),
            "kek_version": str(self.kek_version),
        }


def seal(key: bytes | bytearray, place: Place, content: bytes | bytearray) -> bytes:
    """The content in an envelope for this place, under a fresh random nonce."""
    nonce = os.urandom(_NONCE_BYTES)
    return _head(place) + nonce + AESGCM(key).encrypt(nonce, content, place.bound_to)


def unseal(key: bytes | bytearray | AESGCM, place: Place, envelope: bytes) -> bytearray:
    """The content, in memory that its reader can wipe. A key that opens many envelopes may come
    made ready. Raises NotAuthentic."""
    head = _head(place)
    size = len(envelope) - len(head) - _NONCE_BYTES - _TAG_BYTES
    if size < 0 or not envelope.startswith(head):
        raise NotAuthentic("not an envelope for this place")
    nonce = envelope[len(head) : len(head) + _NONCE_BYTES]
    content = bytearray(size)
    cipher = key if isinstance(key, AESGCM) else AESGCM(key)
    try:
        cipher.decrypt_into(nonce, envelope[len(head) + _NONCE_BYTES :], place.bound_to, content)
    except InvalidTag as error:
        wipe(content)  # it is written before the tag is looked at
        raise NotAuthentic("the tag does not fit") from error
    return content


def wipe(content: bytearray) -> None:
    """Overwrite a secret that is no longer needed."""
    content[:] = bytes(len(content))


def _head(place: Place) -> bytes:
    return _FORMAT + _AES_256_GCM + place.key_name
