"""Ask vendors about keys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.keyvault.actions.examine_vault import ExamineVault
from services.keyvault.domain.audit import US, Kind
from services.keyvault.domain.envelope import NotAuthentic
from services.keyvault.domain.key_use import FoundKey, KeyUse
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.ports import KeyChecker, KeyUses, NewUnitOfWork
from services.keyvault.domain.provider_key import LIVE, ProviderKey
from services.keyvault.domain.vault import Vault
from shared.clock import Clock
from shared.events.base import current_request_id
from shared.events.key import KeyValidated
from shared.ids import EventId
from shared.values import dataclass
from shared.vendors import Check

# Enough that a full message about a vendor who does not answer is done before Valkey gives the
# message to somebody else.
_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class ValidationRequest:
    """One version of a key that waits for its vendor's word."""

    event_id: EventId
    owner: Owner
    provider: str
    key_version: int
    tier: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class ValidateKeys:
    """Open each key, ask its vendor for free what it is worth, and tell everybody.

    An answer about a version that was replaced meanwhile is dropped. Nothing is open in the
    database while a vendor thinks.
    """

    unit_of_work: NewUnitOfWork
    key_uses: KeyUses
    checker: KeyChecker
    examine_vault: ExamineVault
    vault: Vault
    clock: Clock

    async def __call__(self, requests: Sequence[ValidationRequest]) -> None:
        # A worker has no life between two messages in which it could watch the vault.
        await self.examine_vault()
        await self.vault.check()
        gate = asyncio.Semaphore(_AT_ONCE)
        outcomes = await asyncio.gather(
            *(self._validate(request, gate) for request in requests), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _validate(self, request: ValidationRequest, gate: asyncio.Semaphore) -> None:
        async with gate:
            current_request_id.set(request.request_id)
            check = await self._ask_vendor(request)
            if check is not None:
                await self._save(request, check)

    async def _ask_vendor(self, request: ValidationRequest) -> Check | None:
        use = KeyUse(
            Kind.VALIDATED,
            request.owner,
            request.provider,
            US,
            request.request_id,
            self.clock.now(),
            version=request.key_version,
        )
        found = await self.key_uses.note(use, if_status=LIVE)
        if found is None or not found.is_noted:
            return None
        try:
            return await self._check(found, request.provider)
        except NotAuthentic:
            await self.key_uses.note_broken(found.broken(use))
            raise

    async def _check(self, found: FoundKey, provider: str) -> Check:
        async with found.opened(self.vault.roots) as secret:
            return await self.checker.check(provider, secret.decode("ascii"))

    async def _save(self, request: ValidationRequest, check: Check) -> None:
        async with self.unit_of_work() as work:
            key = await work.keys.find(request.owner, request.provider)
            if key is None or not key.is_live or key.version != request.key_version:
                return
            if not await work.unseen({request.event_id}):
                return
            judged = key.judged(check, self.clock.now())
            await work.keys.save(judged)
            work.publish(_told(judged), subject=request.owner.id, tier=request.tier)


def _told(key: ProviderKey) -> KeyValidated:
    return KeyValidated(
        user_id=key.owner.id,
        organisation_id=key.owner.organisation_id,
        key_id=key.id,
        provider=key.provider,
        key_version=key.version,
        status=key.status.value,
        capabilities=key.capabilities,
        models=key.models,
    )
