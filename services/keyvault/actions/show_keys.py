"""Show keys, never what they hold."""

from __future__ import annotations

from collections.abc import Sequence

from services.keyvault.domain.errors import KeyNotFound
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.policy import require_provider
from services.keyvault.domain.ports import NewUnitOfWork
from services.keyvault.domain.provider_key import ProviderKey
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ListKeys:
    """All keys that a user has stored, or their organisation."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, *, by: UserId, of: Owner | None = None) -> Sequence[ProviderKey]:
        async with self.unit_of_work() as work:
            return await work.keys.of(of or Owner.user(by))


@dataclass(frozen=True, slots=True)
class ShowKey:
    """What is known of a user's or an organisation's key for one provider."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, provider: str, *, by: UserId, of: Owner | None = None) -> ProviderKey:
        """Raises UnknownProvider or KeyNotFound."""
        require_provider(provider)
        async with self.unit_of_work() as work:
            keys = await work.keys.of(of or Owner.user(by))
        for key in keys:
            if key.provider == provider:
                return key
        raise KeyNotFound(provider)
