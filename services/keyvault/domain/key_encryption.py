"""Key encryption: what wraps owners' data keys, wherever its keys lie.

A file, the environment, Vault's transit engine or AWS KMS: what uses it does not know which. The
one of a keyring in memory is here; the ones that ask another machine are in `providers/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Protocol
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.keyvault.domain.envelope import Place, seal, unseal, wipe
from services.keyvault.domain.fingerprint import FingerprintKeys
from services.keyvault.domain.keyring import Keyring, KeyringRefused, KeyState
from shared.values import dataclass


class KekPlace(Place, Protocol):
    """A place right under a key-encryption key, with its parts by name."""

    @property
    def context(self) -> Mapping[str, str]:
        """What `bound_to` is made of. It is no secret: a key service may log it."""
        ...


PlaceFor = Callable[[int], KekPlace]


@dataclass(frozen=True, slots=True)
class KekState:
    """Which versions there are; `environment` is bound into every seal."""

    environment: str
    active: int
    versions: Mapping[int, KeyState]

    @property
    def usable(self) -> list[int]:
        """The versions that open something."""
        return sorted(version for version in self.versions if not self.is_closed(version))

    def is_closed(self, version: int) -> bool:
        return self.versions.get(version) is KeyState.CLOSED


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What was wrapped, and the version that did."""

    version: int
    envelope: bytes


class KeyEncryption(Protocol):
    """A set of key-encryption keys, as they were when they were read.

    Whoever unwraps something wipes it. All of it may raise KeyringRefused (the keys are not there,
    not ours to use, or lack the version) and DependencyUnavailable (nobody could tell).
    """

    @property
    def name(self) -> str:
        """The provider: file, env, vault-transit or aws-kms."""
        ...

    @property
    def fingerprint_keys(self) -> FingerprintKeys | None:
        """The keys of fingerprints; None where they lie in the database, wrapped by these keys."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether each unwrapping asks another machine, which may also add versions by itself."""
        ...

    async def state(self) -> KekState: ...

    async def wrap(
        self, content: bytes | bytearray, place_for: PlaceFor, *, version: int | None = None
    ) -> Wrapped:
        """Wrap for the place that it will lie in, by the active version if none is named."""
        ...

    async def unwrap(self, version: int, envelope: bytes, place: KekPlace) -> bytearray:
        """Raises NotAuthentic for what was not wrapped by this version for this place."""
        ...

    async def rewrap(
        self, version: int, envelope: bytes, place: KekPlace, place_for: PlaceFor
    ) -> Wrapped:
        """The same content under the active version. Raises NotAuthentic."""
        ...

    def forget(self, owner_id: UUID | None = None) -> None:
        """Wipe what is kept unwrapped of this owner, or of all."""
        ...


async def rewrapped(
    kek: KeyEncryption, version: int, envelope: bytes, place: KekPlace, place_for: PlaceFor
) -> Wrapped:
    """Rewrap by unwrapping here, for those that know no other way."""
    content = await kek.unwrap(version, envelope, place)
    try:
        return await kek.wrap(content, place_for)
    finally:
        wipe(content)


@dataclass(frozen=True, slots=True)
class KeyringEncryption:
    """The keys of a keyring in memory: wrapping is arithmetic, nothing is waited for."""

    keyring: Keyring
    name: str = "file"
    is_remote: bool = False
    # The keys made ready, which takes as long as opening an envelope; they live as long as these.
    _ciphers: dict[int, AESGCM] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def fingerprint_keys(self) -> FingerprintKeys:
        return FingerprintKeys(self.keyring.fingerprint_keys)

    async def state(self) -> KekState:
        keyring = self.keyring
        versions = dict.fromkeys(keyring.keys, KeyState.RETIRED) | dict(keyring.states)
        versions[keyring.active] = KeyState.ACTIVE
        return KekState(keyring.environment, keyring.active, versions)

    async def wrap(
        self, content: bytes | bytearray, place_for: PlaceFor, *, version: int | None = None
    ) -> Wrapped:
        version = self.keyring.active if version is None else version
        return Wrapped(version, seal(self._key(version), place_for(version), content))

    async def unwrap(self, version: int, envelope: bytes, place: KekPlace) -> bytearray:
        return unseal(self._cipher(version), place, envelope)

    async def rewrap(
        self, version: int, envelope: bytes, place: KekPlace, place_for: PlaceFor
    ) -> Wrapped:
        return await rewrapped(self, version, envelope, place, place_for)

    def forget(self, owner_id: UUID | None = None) -> None:
        """Nothing is kept unwrapped: unwrapping again costs less than keeping."""

    def _cipher(self, version: int) -> AESGCM:
        cipher = self._ciphers.get(version)
        if cipher is None:
            cipher = self._ciphers[version] = AESGCM(self._key(version))
        return cipher

    def _key(self, version: int) -> bytes:
        try:
            return self.keyring.keys[version]
        except KeyError as error:
            raise KeyringRefused("keyring_lacks_a_version") from error
