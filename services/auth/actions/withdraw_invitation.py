"""Take an invitation back."""

from __future__ import annotations

from services.auth.actions._enter_organisation import enter
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import InvitationNotFound
from services.auth.domain.organisation import Act, InvitationId, OrganisationId
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class WithdrawInvitation:
    """Make an open invitation worthless."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self,
        organisation_id: OrganisationId,
        invitation_id: InvitationId,
        *,
        by: UserId,
        origin: Origin,
    ) -> None:
        """Raises OrganisationNotFound, OrganisationRoleRequired or InvitationNotFound."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            entered = await enter(work, organisation_id, by)
            entered.actor.require(Act.INVITE)
            invitation = await work.invitations.get(organisation_id, invitation_id)
            if invitation is None or not invitation.is_open(now):
                raise InvitationNotFound
            await work.invitations.save(invitation.withdrawn(now))
            await work.audit.note(
                AuditEntry.in_organisation(
                    "invitation.withdrawn",
                    organisation_id,
                    now,
                    origin,
                    by=by,
                    invitation_id=str(invitation_id),
                )
            )
