"""List the invitations that are open."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.actions._enter_organisation import look_into
from services.auth.domain.organisation import Act, Invitation, InvitationId, OrganisationId
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ListInvitations:
    """The newest first. Their tokens are in the mails alone."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self,
        organisation_id: OrganisationId,
        *,
        by: UserId,
        before: InvitationId | None,
        most: int,
    ) -> Sequence[Invitation]:
        """Raises OrganisationNotFound or OrganisationRoleRequired."""
        async with self.unit_of_work() as work:
            entered = await look_into(work, organisation_id, by)
            entered.actor.require(Act.INVITE)
            return await work.invitations.open_of(
                organisation_id, self.clock.now(), before=before, most=most
            )
