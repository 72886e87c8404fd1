"""Store a key."""

from __future__ import annotations

from services.keyvault.actions.limit_checks import LimitChecks
from services.keyvault.actions.revoke_key import revocation_of
from services.keyvault.domain.audit import Kind, entry_about
from services.keyvault.domain.errors import (
    OrganisationKeysNotFound,
    VaultSealed,
    VersionClosed,
)
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.policy import require_provider
from services.keyvault.domain.ports import NewUnitOfWork, UnitOfWork
from services.keyvault.domain.provider_key import ProviderKey, hint_of, new_key
from services.keyvault.domain.roots import Roots
from services.keyvault.domain.secret import (
    DataKey,
    fingerprint_for,
    new_data_key,
    opened_data_key,
    seal_secret,
)
from services.keyvault.domain.vault import Vault
from shared.clock import Clock
from shared.events.base import current_request_id
from shared.events.key import KeyValidationRequested
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class StoreKey:
    """Seal a user's key, in place of the one before, and ask for its check.

    The same key sent again keeps its version, so that what runs on it goes on, and is not checked
    twice at a time.
    """

    unit_of_work: NewUnitOfWork
    vault: Vault
    clock: Clock
    limit: LimitChecks

    async def __call__(
        self, provider: str, api_key: str, *, by: UserId, tier: str, of: Owner | None = None
    ) -> ProviderKey:
        """`of` an organisation whose key admin they are; their own otherwise.

        Raises UnknownProvider, VaultSealed, KeyChecksReached or OrganisationKeysNotFound.
        """
        require_provider(provider)
        roots, owner, now = self.vault.roots, of or Owner.user(by), self.clock.now()
        made = await self._asked_before(roots, owner) if roots.kek.is_remote else None
        async with self.unit_of_work() as work:
            await work.keys.lock(owner)
            if owner.organisation_id and await work.organisations.has_ended(owner.organisation_id):
                raise OrganisationKeysNotFound
            await self.limit(work, owner)
            key = await work.keys.find(owner, provider)
            key = key or new_key(owner, provider, tier=tier, at=now)
            is_checked_already = False
            if _holds(roots, key, api_key):
                is_checked_already = key.is_being_checked(now)
                key = key.stored_again(tier=tier, at=now)
            else:
                if key.secret is not None:
                    # What runs on the secret before this one ends, as if that were withdrawn.
                    work.publish(revocation_of(key), subject=owner.id, tier=tier)
                data_key = await _data_key_of(work, roots, owner, made)
                secret = await seal_secret(roots, data_key, key.next_name, api_key)
                key = key.holding(secret, hint=hint_of(api_key), tier=tier, at=now)
            await work.keys.save(key)
            await work.audit.add(
                entry_about(key, Kind.STORED, now, by=by, request_id=current_request_id.get())
            )
            if not is_checked_already:
                work.publish(validation_of(key), subject=owner.id, tier=tier)
        return key

    async def _asked_before(self, roots: Roots, owner: Owner) -> DataKey | None:
        """Ask the key service now, not while the owner is locked and a connection is taken.

        What it says is kept for a minute, so that the answer is there when it is needed.
        """
        async with self.unit_of_work() as work:
            await self.limit(work, owner)
            known = await work.data_keys.of(owner)
        if known is None:
            return await new_data_key(roots, owner)
        async with opened_data_key(roots, known):
            return None


def validation_of(key: ProviderKey) -> KeyValidationRequested:
    """The request to check the key as it is now."""
    return KeyValidationRequested(
        user_id=key.owner.id,
        organisation_id=key.owner.organisation_id,
        key_id=key.id,
        provider=key.provider,
        key_version=key.version,
    )


def _holds(roots: Roots, key: ProviderKey, api_key: str) -> bool:
    if key.secret is None:
        return False
    return key.secret.fingerprint.equals(fingerprint_for(roots, key.name, api_key))


async def _data_key_of(
    work: UnitOfWork, roots: Roots, owner: Owner, made: DataKey | None
) -> DataKey:
    known = await work.data_keys.of(owner)
    if known is not None:
        return known
    made = made or await new_data_key(roots, owner)
    try:
        await work.data_keys.add(made)
    except VersionClosed as closed:
        # An old version, or one that has no canary yet: the next look at the keys tells.
        raise VaultSealed from closed
    return made
