"""Let a client act for somebody who proves who they are on the login page."""

from __future__ import annotations

from services.auth.actions._prove_identity import ProveIdentity
from services.auth.domain.audit import AuditEntry
from services.auth.domain.authorization import AuthorizationCode, AuthorizationRequest, new_code
from services.auth.domain.credentials import Credentials
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class AuthorizeClient:
    """Answer a login with a code. No sign-in begins before the client redeems it."""

    unit_of_work: NewUnitOfWork
    prove: ProveIdentity
    clock: Clock

    async def __call__(self, request: AuthorizationRequest, shown: Credentials) -> str:
        """The address to send the browser to. Raises what `ProveIdentity` raises."""
        checked = await self.prove.check(shown)
        code = new_code()
        async with self.unit_of_work() as work:
            proven = await self.prove.conclude(work, checked, shown)
            now = self.clock.now()
            await work.authorization_codes.add(
                AuthorizationCode.issued(code, request, proven.user, proven.proof, now)
            )
            await work.audit.note(
                AuditEntry.of_user(
                    "client.authorized",
                    proven.user.id,
                    now,
                    shown.origin,
                    client_id=request.address.client.client_id,
                    methods=sorted(proven.proof.methods),
                )
            )
        return request.address.with_code(code)
