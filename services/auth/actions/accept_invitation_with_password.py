"""Join an organisation by the link in a mail, without being signed in anywhere."""

from __future__ import annotations

from services.auth.actions._prove_identity import ProveIdentity
from services.auth.actions.accept_invitation import AcceptInvitation
from services.auth.domain.credentials import Credentials
from services.auth.domain.organisation import Entered, InvitationToken
from services.auth.domain.ports import NewUnitOfWork
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class AcceptInvitationWithPassword:
    """Prove who one is and accept; no sign-in begins."""

    unit_of_work: NewUnitOfWork
    prove: ProveIdentity
    accept: AcceptInvitation

    async def __call__(self, token: InvitationToken, shown: Credentials) -> Entered:
        """Raises what proving an identity and what accepting raises."""
        checked = await self.prove.check(shown)
        async with self.unit_of_work() as work:
            proven = await self.prove.conclude(work, checked, shown)
        return await self.accept(token, by=proven.user.id, origin=shown.origin)
