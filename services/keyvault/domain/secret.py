"""A user's secret inside its two envelopes, and the only ways to put it in and take it out."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from services.keyvault.domain.envelope import (
    KEY_BYTES,
    DataKeyPlace,
    SecretPlace,
    seal,
    unseal,
    wipe,
)
from services.keyvault.domain.errors import VaultSealed
from services.keyvault.domain.fingerprint import Fingerprint, fingerprint_of
from services.keyvault.domain.keyring import KeyringRefused
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.roots import Roots
from shared.ids import uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class DataKey:
    """An owner's own key, wrapped by a version of the key-encryption key."""

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


async def new_data_key(roots: Roots, owner: Owner) -> DataKey:
    """Make a data key for an owner, wrapped by the active version. Raises VaultSealed."""
    id_ = uuid7()

    def place_for(version: int) -> DataKeyPlace:
        return DataKeyPlace(roots.environment, owner.type, owner.id, id_, version)

    content = bytearray(secrets.token_bytes(KEY_BYTES))
    try:
        wrapped = await roots.kek.wrap(content, place_for)
    except KeyringRefused as refused:
        raise VaultSealed from refused
    finally:
        wipe(content)
    return DataKey(id_, owner, wrapped.version, wrapped.envelope)


async def seal_secret(
    roots: Roots, data_key: DataKey, name: SecretName, content: str
) -> SealedSecret:
    """Seal a secret under its owner's data key. Raises NotAuthentic for a data key not ours."""
    place = _secret_place(roots, data_key, name)
    async with opened_data_key(roots, data_key) as key:
        envelope = seal(key, place, content.encode("ascii"))
    return SealedSecret(data_key.id, envelope, fingerprint_for(roots, name, content))


class OpenedSecret:
    """A secret for the length of an `async with`, in memory that is wiped at its end; its data key
    is wiped before the block begins.

    This lowers the risk and promises nothing: Python may have copied it in the meantime. Every call
    to a vendor comes through here, and a generator as a context manager costs more than the opening
    itself.
    """

    __slots__ = ("_content", "_data_key", "_envelope", "_name", "_roots")

    def __init__(self, roots: Roots, data_key: DataKey, name: SecretName, envelope: bytes) -> None:
        self._roots = roots
        self._data_key = data_key
        self._name = name
        self._envelope = envelope
        self._content: bytearray

    async def __aenter__(self) -> bytearray:
        """Raises NotAuthentic, VaultSealed."""
        place = _secret_place(self._roots, self._data_key, self._name)
        key = await _unwrapped(self._roots, self._data_key)
        try:
            self._content = unseal(key, place, self._envelope)
        finally:
            wipe(key)
        return self._content

    async def __aexit__(self, *_: object) -> None:
        wipe(self._content)


def fingerprint_for(roots: Roots, name: SecretName, content: str) -> Fingerprint:
    """The newest kind of fingerprint of this content."""
    version = roots.fingerprints.active
    return fingerprint_of(
        content,
        owner_id=name.owner.id,
        provider=name.provider,
        key=roots.fingerprints.by_version[version],
        version=version,
    )


@asynccontextmanager
async def opened_data_key(roots: Roots, data_key: DataKey) -> AsyncIterator[bytearray]:
    """The data key for the length of a block, wiped at its end. Raises NotAuthentic."""
    key = await _unwrapped(roots, data_key)
    try:
        yield key
    finally:
        wipe(key)


async def _unwrapped(roots: Roots, data_key: DataKey) -> bytearray:
    # A version that this process does not know answers VaultSealed: it may have been activated a
    # moment ago, and the next look at the keys tells.
    place = data_key_place(roots.environment, data_key, data_key.kek_version)
    try:
        return await roots.kek.unwrap(data_key.kek_version, data_key.wrapped, place)
    except KeyringRefused as refused:
        raise VaultSealed from refused


def data_key_place(environment: str, data_key: DataKey, version: int) -> DataKeyPlace:
    """Where a data key lies while this version wraps it."""
    owner = data_key.owner
    return DataKeyPlace(environment, owner.type, owner.id, data_key.id, version)


def _secret_place(roots: Roots, data_key: DataKey, name: SecretName) -> SecretPlace:
    return SecretPlace(
        environment=roots.environment,
        owner_id=name.owner.id,
        data_key_id=data_key.id,
        secret_id=name.id,
        provider=name.provider,
        secret_version=name.version,
    )
