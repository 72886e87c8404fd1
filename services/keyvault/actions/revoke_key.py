"""Withdraw a key."""

from __future__ import annotations

from services.keyvault.domain.audit import Kind, entry_about
from services.keyvault.domain.errors import KeyNotFound
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.policy import require_provider
from services.keyvault.domain.ports import NewUnitOfWork
from services.keyvault.domain.provider_key import ProviderKey
from services.keyvault.domain.vault import Vault
from shared.clock import Clock
from shared.events.base import current_request_id
from shared.events.key import KeyRevoked
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RevokeKey:
    """Destroy a user's key for good and tell whoever may be using it.

    With the last key its owner's data key goes too, and with that all that it ever sealed. Works
    while the vault is sealed: nothing needs to be opened to be destroyed.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock
    vault: Vault

    async def __call__(
        self, provider: str, *, by: UserId, tier: str, of: Owner | None = None
    ) -> None:
        """`of` an organisation whose key admin they are; their own otherwise.

        Raises UnknownProvider or KeyNotFound.
        """
        require_provider(provider)
        owner, now = of or Owner.user(by), self.clock.now()
        async with self.unit_of_work() as work:
            await work.keys.lock(owner)
            key = await work.keys.find(owner, provider)
            if key is None or not key.is_live:
                raise KeyNotFound(provider)
            await work.keys.save(key.revoked(now))
            if not await work.keys.of(owner):
                await work.data_keys.shred(owner)
            await work.audit.add(
                entry_about(key, Kind.DELETED, now, by=by, request_id=current_request_id.get())
            )
            work.publish(revocation_of(key), subject=owner.id, tier=tier)
        self.vault.forget(owner.id)


def revocation_of(key: ProviderKey) -> KeyRevoked:
    """The news that the key as it is now must not be used any more."""
    return KeyRevoked(
        user_id=key.owner.id,
        organisation_id=key.owner.organisation_id,
        key_id=key.id,
        provider=key.provider,
        key_version=key.version,
    )
