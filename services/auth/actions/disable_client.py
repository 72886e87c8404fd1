"""Take a client out of service."""

from __future__ import annotations

from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import ClientNotFound
from services.auth.domain.oauth_client import is_client_id
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.sign_in import EndReason
from shared.clock import Clock
from shared.ids import uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class DisableClient:
    """Disable a client, end every sign-in that it has begun, and revoke the personal tokens that
    were made in them."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, client_id: str) -> int:
        """Answers how many sign-ins have ended. Raises ClientNotFound."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            client = await work.oauth_clients.get(client_id) if is_client_id(client_id) else None
            if client is None:
                raise ClientNotFound
            await work.oauth_clients.disable(client.disabled(now))
            ended = await work.sign_ins.end_all_of_client(client_id, EndReason.CLIENT_DISABLED, now)
            revoked = await work.personal_tokens.revoke_all_of_client(client_id, now)
            facts = {"client_id": client_id, "sign_ins": ended, "personal_tokens": revoked}
            await work.audit.note(
                AuditEntry(uuid7(), now, "client.disabled", None, None, facts=facts)
            )
        return ended
