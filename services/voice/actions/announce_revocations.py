"""Keys were revoked: let every replica know."""

from __future__ import annotations

from collections.abc import Sequence

from services.voice.domain.ports import Revocations
from shared.revocation import Revocation
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class AnnounceRevocations:
    """Pass the news on from the worker, which hears it, to the replicas, which carry speeches."""

    revocations: Revocations

    async def __call__(self, news: Sequence[Revocation]) -> None:
        await self.revocations.announce(news)
