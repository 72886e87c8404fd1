"""Forget keys that were withdrawn."""

from __future__ import annotations

from collections.abc import Sequence

from services.chat.domain.known_key import RevokedKey
from services.chat.domain.ports import NewUnitOfWork, Revocations
from shared.revocation import Revocation
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ForgetKeys:
    """Forget revoked keys, up to and including the revoked version, and tell the replicas, which
    may be running turns on them."""

    unit_of_work: NewUnitOfWork
    revocations: Revocations

    async def __call__(self, keys: Sequence[RevokedKey]) -> None:
        async with self.unit_of_work() as work:
            gone = await work.forgotten.among([key.user_id for key in keys])
            await work.known_keys.forget([key for key in keys if key.user_id not in gone])
        await self.revocations.announce(
            [Revocation(key.user_id, key.provider, key.at, key.key_version) for key in keys]
        )
