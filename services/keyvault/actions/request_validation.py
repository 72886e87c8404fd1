"""Ask for checks of keys: when their owner wants one, and when one is due."""

from __future__ import annotations

from services.keyvault.actions.limit_checks import LimitChecks
from services.keyvault.actions.store_key import validation_of
from services.keyvault.domain.errors import KeyNotFound
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.policy import require_provider
from services.keyvault.domain.ports import NewUnitOfWork
from services.keyvault.domain.provider_key import ANSWER_WITHIN, ProviderKey
from services.keyvault.domain.vault import Vault
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass

# Each run takes so many, so that a full day's keys due at once don't flood the vendors.
_MOST_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class RequestValidation:
    """Let a key be checked again. Until the answer, what is known of it stands; whoever asks
    meanwhile waits for the same one."""

    unit_of_work: NewUnitOfWork
    vault: Vault
    clock: Clock
    limit: LimitChecks

    async def __call__(
        self, provider: str, *, by: UserId, tier: str, of: Owner | None = None
    ) -> ProviderKey:
        """Raises UnknownProvider, VaultSealed, KeyNotFound or KeyChecksReached."""
        require_provider(provider)
        await self.vault.check()
        owner, now = of or Owner.user(by), self.clock.now()
        async with self.unit_of_work() as work:
            key = await work.keys.find(owner, provider)
            if key is None or not key.is_live:
                raise KeyNotFound(provider)
            if key.is_being_checked(now):
                return key
            await self.limit(work, owner)
            key = key.check_requested(tier=tier, at=now)
            await work.keys.save(key)
            work.publish(validation_of(key), subject=owner.id, tier=tier)
        return key


@dataclass(frozen=True, slots=True)
class RequestDueValidations:
    """Ask for the checks that are due: retries after a vendor's silence, and the daily ones."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> int:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            due = await work.keys.claim_due(
                now, put_off_until=now + ANSWER_WITHIN, most=_MOST_AT_ONCE
            )
            for key in due:
                work.publish(validation_of(key), subject=key.owner.id, tier=key.tier)
        return len(due)
