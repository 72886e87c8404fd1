"""Store a key."""

from __future__ import annotations

from dataclasses import dataclass

from services.keyvault.domain.audit import Kind, entry_about
from services.keyvault.domain.keyring import Keyring
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.policy import require_provider
from services.keyvault.domain.ports import NewUnitOfWork, UnitOfWork
from services.keyvault.domain.provider_key import ProviderKey, hint_of, new_key
from services.keyvault.domain.secret import (
    DataKey,
    fingerprint_for,
    new_data_key,
    seal_secret,
)
from services.keyvault.domain.vault import Vault
from shared.clock import Clock
from shared.events.base import current_request_id
from shared.events.key import KeyValidationRequested
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class StoreKey:
    """Seal a user's key, in place of the one before, and ask for its check.

    The same key sent again keeps its version, so that what runs on it goes on.
    """

    unit_of_work: NewUnitOfWork
    vault: Vault
    clock: Clock

    async def __call__(self, provider: str, api_key: str, *, by: UserId, tier: str) -> ProviderKey:
        require_provider(provider)
        keyring, owner, now = self.vault.keyring, Owner.user(by), self.clock.now()
        async with self.unit_of_work() as work:
            await work.keys.lock(owner)
            key = await work.keys.find(owner, provider)
            key = key or new_key(owner, provider, tier=tier, at=now)
            if _holds(keyring, key, api_key):
                key = key.stored_again(tier=tier, at=now)
            else:
                data_key = await _data_key_of(work, keyring, owner)
                secret = seal_secret(keyring, data_key, key.next_name, api_key)
                key = key.holding(secret, hint=hint_of(api_key), tier=tier, at=now)
            await work.keys.save(key)
            await work.audit.add(
                entry_about(key, Kind.STORED, now, request_id=current_request_id.get())
            )
            work.publish(validation_of(key), subject=owner.id, tier=tier)
        return key


def validation_of(key: ProviderKey) -> KeyValidationRequested:
    """The request to check the key as it is now."""
    return KeyValidationRequested(
        user_id=key.owner.id, key_id=key.id, provider=key.provider, key_version=key.version
    )


def _holds(keyring: Keyring, key: ProviderKey, api_key: str) -> bool:
    if key.secret is None:
        return False
    return key.secret.fingerprint.equals(fingerprint_for(keyring, key.name, api_key))


async def _data_key_of(work: UnitOfWork, keyring: Keyring, owner: Owner) -> DataKey:
    known = await work.data_keys.of(owner)
    if known is not None:
        return known
    made = new_data_key(keyring, owner)
    await work.data_keys.add(made)
    return made
