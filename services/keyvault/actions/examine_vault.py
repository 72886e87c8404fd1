"""Open the vault, or seal it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import structlog

from services.keyvault.domain.canary import (
    Canary,
    Purpose,
    canaries_of,
    prove,
    prove_known,
    wrapping_canary,
)
from services.keyvault.domain.envelope import KEY_BYTES, NotAuthentic, RootPlace, wipe
from services.keyvault.domain.fingerprint import FingerprintKeys
from services.keyvault.domain.key_encryption import KekState, KeyEncryption
from services.keyvault.domain.keyring import KeyringRefused
from services.keyvault.domain.ports import KeyEncryptionSource, NewUnitOfWork
from services.keyvault.domain.roots import Roots, SealedRoot
from services.keyvault.domain.vault import Vault
from shared.values import dataclass

log = structlog.get_logger(__name__)

_FINGERPRINT = "fingerprint"
_SEEN_IN_BETWEEN = frozenset({"keyring_lacks_a_version", "canary_missing"})


@dataclass(frozen=True, slots=True)
class ExamineVault:
    """Look at the keys and prove them against the canaries; open on success, seal on any doubt.

    Only with `may_begin`, and only in a database without canaries and without data keys, are the
    canaries written: there the keys can't be wrong ones. Raises Unavailable while the database or
    a remote key service is out of reach, and leaves the vault as it was: that says nothing about
    the keys.
    """

    source: KeyEncryptionSource
    unit_of_work: NewUnitOfWork
    vault: Vault
    may_begin: bool = False

    async def __call__(self) -> None:
        try:
            roots, state = await self._looked_again_if_changing()
        except KeyringRefused as refused:
            self._seal(refused.reason)
        else:
            self._open(roots, state)

    async def _looked_again_if_changing(self) -> tuple[Roots, KekState]:
        # Keys and canaries are read one after the other, so that a rotation's step may fall in
        # between. Then the second look finds them in accord.
        try:
            return await self._proven()
        except KeyringRefused as refused:
            if refused.reason not in _SEEN_IN_BETWEEN:
                raise
            return await self._proven()

    async def _proven(self) -> tuple[Roots, KekState]:
        kek = await self.source.read()
        state = await kek.state()
        canaries, sealed_roots = await self._kept()
        if not canaries and self.may_begin:
            await self._begin(kek, state)
            canaries, sealed_roots = await self._kept()
        roots = Roots(kek, state.environment, await _fingerprint_keys(kek, state, sealed_roots))
        if kek.is_remote and canaries:
            canaries = await self._welcomed(roots, state, canaries)
        await prove(roots, canaries)
        if kek.is_remote and self.may_begin:
            await self._move_on(roots, state, sealed_roots)
        return roots, state

    async def _kept(self) -> tuple[Sequence[Canary], Sequence[SealedRoot]]:
        async with self.unit_of_work() as work:
            return await work.canaries.all(), await work.sealed_roots.all()

    async def _begin(self, kek: KeyEncryption, state: KekState) -> None:
        made: list[SealedRoot] = []
        fingerprints = kek.fingerprint_keys
        if fingerprints is None:
            key = bytearray(secrets.token_bytes(KEY_BYTES))
            fingerprints = FingerprintKeys({1: bytes(key)})
            made = [await _wrapped_root(kek, state, 1, key)]
        canaries = await canaries_of(Roots(kek, state.environment, fingerprints))
        # No key service is waited for from here on.
        async with self.unit_of_work() as work:
            if await work.data_keys.any_exists():
                return
            if await work.canaries.add_first(canaries):
                await work.sealed_roots.save(made)

    async def _welcomed(
        self, roots: Roots, state: KekState, canaries: Sequence[Canary]
    ) -> Sequence[Canary]:
        """The canaries, with one for the version that was made active at the key service.

        The older ones are proven first: it is the key service that this database was begun with.
        """
        known = {canary.version for canary in canaries if canary.purpose is Purpose.WRAPPING}
        # Not those on standby: a process that has not heard of them yet would be sealed. And not
        # the lower ones: they were retired here, and are closed at the key service next.
        if state.active <= max(known, default=0) or not known & set(state.usable):
            return canaries
        await prove_known(roots, canaries)
        fresh = await wrapping_canary(roots, state.active)
        async with self.unit_of_work() as work:
            await work.canaries.add([fresh])
            return await work.canaries.all()

    async def _move_on(
        self, roots: Roots, state: KekState, sealed_roots: Sequence[SealedRoot]
    ) -> None:
        """Rewrap the roots that an older version wraps, so that it can be retired."""
        moved = []
        for root in sealed_roots:
            if root.kek_version != state.active:
                key = bytearray(roots.fingerprints.by_version[root.version])
                moved.append(await _wrapped_root(roots.kek, state, root.version, key))
        if moved:
            async with self.unit_of_work() as work:
                await work.sealed_roots.save(moved)

    def _open(self, roots: Roots, state: KekState) -> None:
        if self.vault.is_sealed:
            log.info("vault_opened", provider=roots.kek.name, active_version=state.active)
        self.vault.open(roots)

    def _seal(self, reason: str) -> None:
        if self.vault.sealed_because != reason:
            log.error("vault_sealed", reason=reason)
        self.vault.seal(reason)


async def _fingerprint_keys(
    kek: KeyEncryption, state: KekState, sealed_roots: Sequence[SealedRoot]
) -> FingerprintKeys:
    if kek.fingerprint_keys is not None:
        return kek.fingerprint_keys
    keys = {}
    for root in sealed_roots:
        place = RootPlace(state.environment, root.purpose, root.version, root.kek_version)
        try:
            key = await kek.unwrap(root.kek_version, root.envelope, place)
        except NotAuthentic as error:
            raise KeyringRefused("keyring_of_another_database") from error
        keys[root.version] = bytes(key)
        wipe(key)
    if not keys:
        raise KeyringRefused("canary_missing")
    return FingerprintKeys(keys)


async def _wrapped_root(
    kek: KeyEncryption, state: KekState, version: int, key: bytearray
) -> SealedRoot:
    def place_for(kek_version: int) -> RootPlace:
        return RootPlace(state.environment, _FINGERPRINT, version, kek_version)

    try:
        wrapped = await kek.wrap(key, place_for)
    finally:
        wipe(key)
    return SealedRoot(_FINGERPRINT, version, wrapped.version, wrapped.envelope)
