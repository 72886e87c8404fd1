"""A user's secret inside its two envelopes, and the only ways to put it in and take it out."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from services.keyvault.domain.envelope import (
    KEY_BYTES,
    DataKeyPlace,
    SecretPlace,
    seal,
    unsealed,
)
from services.keyvault.domain.fingerprint import Fingerprint, fingerprint_of
from services.keyvault.domain.keyring import Keyring
from services.keyvault.domain.owner import Owner
from shared.ids import uuid7


@dataclass(frozen=True, slots=True)
class DataKey:
    """An owner's own key, wrapped by a version of the keyring."""

    id: UUID
    owner: Owner
    kek_version: int
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class SecretName:
    """Which secret it is; the seal binds the content to this."""

    id: UUID
    owner: Owner
    provider: str
    version: int


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A secret as it is stored."""

    data_key_id: UUID
    envelope: bytes
    fingerprint: Fingerprint


def new_data_key(keyring: Keyring, owner: Owner) -> DataKey:
    """Make a data key for an owner, wrapped by the keyring's active version."""
    id_ = uuid7()
    place = _data_key_place(keyring, id_, owner, keyring.active)
    wrapped = seal(keyring.active_key, place, secrets.token_bytes(KEY_BYTES))
    return DataKey(id_, owner, keyring.active, wrapped)


def seal_secret(
    keyring: Keyring, data_key: DataKey, name: SecretName, content: str
) -> SealedSecret:
    """Seal a secret under its owner's data key. Raises NotAuthentic for a data key not ours."""
    place = _secret_place(keyring, data_key, name)
    with _opened_data_key(keyring, data_key) as key:
        envelope = seal(key, place, content.encode("ascii"))
    return SealedSecret(data_key.id, envelope, fingerprint_for(keyring, name, content))


@contextmanager
def opened_secret(
    keyring: Keyring, data_key: DataKey, name: SecretName, envelope: bytes
) -> Iterator[bytearray]:
    """The secret for the length of a block. Raises NotAuthentic."""
    place = _secret_place(keyring, data_key, name)
    with (
        _opened_data_key(keyring, data_key) as key,
        unsealed(key, place, envelope) as content,
    ):
        yield content


def fingerprint_for(keyring: Keyring, name: SecretName, content: str) -> Fingerprint:
    """The newest kind of fingerprint of this content."""
    version = keyring.active_fingerprint
    return fingerprint_of(
        content,
        owner_id=name.owner.id,
        provider=name.provider,
        key=keyring.fingerprint_keys[version],
        version=version,
    )


@contextmanager
def _opened_data_key(keyring: Keyring, data_key: DataKey) -> Iterator[bytearray]:
    place = _data_key_place(keyring, data_key.id, data_key.owner, data_key.kek_version)
    with unsealed(keyring.keys[data_key.kek_version], place, data_key.wrapped) as key:
        yield key


def _data_key_place(keyring: Keyring, id_: UUID, owner: Owner, version: int) -> DataKeyPlace:
    return DataKeyPlace(keyring.environment, owner.type, owner.id, id_, version)


def _secret_place(keyring: Keyring, data_key: DataKey, name: SecretName) -> SecretPlace:
    return SecretPlace(
        environment=keyring.environment,
        owner_id=name.owner.id,
        data_key_id=data_key.id,
        secret_id=name.id,
        provider=name.provider,
        secret_version=name.version,
    )
