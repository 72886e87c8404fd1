"""Destroy the keys of an organisation that exists no more."""

from __future__ import annotations

from uuid import UUID

from services.keyvault.domain.owner import Owner
from services.keyvault.domain.ports import NewUnitOfWork
from services.keyvault.domain.vault import Vault
from shared.clock import Clock
from shared.erasure import BATCH
from shared.events.key import KeyRevoked
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class EndOrganisation:
    """Shred its data key, delete its keys and end what runs on them; then its trail, in pieces.

    Safe to repeat, and works while the vault is sealed. A key that its admins were storing in that
    very moment is either deleted here or refused there.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock
    vault: Vault

    async def __call__(self, organisation_id: UUID) -> None:
        owner = Owner.organisation(organisation_id)
        await self._destroy_keys(owner)
        self.vault.forget(owner.id)
        while await self._erase_trail(owner) == BATCH:
            pass

    async def _destroy_keys(self, owner: Owner) -> None:
        async with self.unit_of_work() as work:
            await work.keys.lock(owner)
            await work.organisations.end(owner.id, self.clock.now())
            for key in await work.keys.of(owner):
                told = KeyRevoked(
                    user_id=owner.id,
                    organisation_id=owner.organisation_id,
                    key_id=key.id,
                    provider=key.provider,
                    key_version=key.version,
                )
                work.publish(told, subject=owner.id, tier=key.tier)
            await work.keys.delete_all(owner)
            await work.data_keys.shred(owner)

    async def _erase_trail(self, owner: Owner) -> int:
        async with self.unit_of_work() as work:
            return await work.audit.erase(owner, most=BATCH)
