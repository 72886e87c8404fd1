"""List the clients."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.domain.oauth_client import OAuthClient
from services.auth.domain.ports import NewUnitOfWork
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ListClients:
    """All clients, disabled ones too, the oldest first."""

    unit_of_work: NewUnitOfWork

    async def __call__(self) -> Sequence[OAuthClient]:
        async with self.unit_of_work() as work:
            return await work.oauth_clients.all()
