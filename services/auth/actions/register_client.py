"""Let a program send people to our login page."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.domain.audit import AuditEntry
from services.auth.domain.oauth_client import OAuthClient
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RegisterClient:
    """Register a client, from the console of the installation; no HTTP door leads here."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, name: str, redirect_uris: Sequence[str]) -> OAuthClient:
        """Raises InvalidClientName or InvalidRedirectUri."""
        now = self.clock.now()
        client = OAuthClient.registered(name, redirect_uris, now)
        facts = {"client_id": client.client_id}
        async with self.unit_of_work() as work:
            await work.oauth_clients.add(client)
            await work.audit.note(
                AuditEntry(uuid7(), now, "client.registered", None, None, facts=facts)
            )
        return client
