"""Open the vault, or seal it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from services.keyvault.domain.canary import Canary, canaries_of, prove
from services.keyvault.domain.keyring import Keyring, KeyringRefused
from services.keyvault.domain.ports import KeyringSource, NewUnitOfWork
from services.keyvault.domain.vault import Vault

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ExamineVault:
    """Read the keyring and prove it against the canaries; open on success, seal on any doubt.

    Only with `may_begin`, and only in a database without canaries and without data keys, are the
    canaries written: there the keyring can't be a wrong one. Raises Unavailable while the database
    is out of reach, and leaves the vault as it was: that says nothing about the keyring.
    """

    source: KeyringSource
    unit_of_work: NewUnitOfWork
    vault: Vault
    may_begin: bool = False

    async def __call__(self) -> None:
        try:
            keyring = await self.source.read()
            prove(keyring, await self._canaries(keyring))
        except KeyringRefused as refused:
            self._seal(refused.reason)
        else:
            self._open(keyring)

    async def _canaries(self, keyring: Keyring) -> Sequence[Canary]:
        async with self.unit_of_work() as work:
            canaries = await work.canaries.all()
            if canaries or not self.may_begin or await work.data_keys.any_exists():
                return canaries
            await work.canaries.add_first(canaries_of(keyring))
            return await work.canaries.all()

    def _open(self, keyring: Keyring) -> None:
        if self.vault.is_sealed:
            log.info("vault_opened", active_version=keyring.active)
        self.vault.open(keyring)

    def _seal(self, reason: str) -> None:
        if self.vault.sealed_because != reason:
            log.error("vault_sealed", reason=reason)
        self.vault.seal(reason)
