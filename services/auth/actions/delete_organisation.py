"""Dissolve an organisation."""

from __future__ import annotations

from datetime import datetime

from services.auth.actions._assign_seats import mail_lost_seats, tell_released
from services.auth.actions._enter_organisation import enter
from services.auth.domain.audit import AuditEntry
from services.auth.domain.organisation import MAY, Act, Organisation, OrganisationId
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.events.organisation import OrganisationDeleted
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class DeleteOrganisation:
    """Dissolve it: its members go on alone, each with the tier of their own."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self, organisation_id: OrganisationId, *, by: UserId, origin: Origin
    ) -> None:
        """Raises OrganisationNotFound or OrganisationRoleRequired."""
        async with self.unit_of_work() as work:
            entered = await enter(work, organisation_id, by)
            entered.actor.require(Act.DELETE)
            await dissolve(work, entered.organisation, self.clock.now(), by=by, origin=origin)


async def dissolve(
    work: UnitOfWork, organisation: Organisation, at: datetime, *, by: UserId, origin: Origin
) -> None:
    """Delete an organisation that the unit of work holds, and tell everybody."""
    seated = await work.members.seated(organisation.id)
    deciding = await work.members.with_roles(organisation.id, MAY[Act.BUY])
    await work.organisations.delete(organisation.id)
    await tell_released(work, organisation, seated)
    others = [member for member in seated if member.user_id != by]
    await mail_lost_seats(work, organisation, others, at, reason="dissolved")
    work.publish(
        OrganisationDeleted(
            organisation_id=organisation.id,
            user_id=by,
            decided=tuple(member.user_id for member in deciding),
        ),
        subject=organisation.id,
        tier=organisation.tier,
    )
    await work.audit.note(
        AuditEntry.in_organisation("organisation.deleted", organisation.id, at, origin, by=by)
    )
