"""Found an organisation."""

from __future__ import annotations

from services.auth.actions._assign_seats import tell_assigned
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import AccountGone
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import Entered, Member, Organisation, OrganisationName
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class CreateOrganisation:
    """Found an organisation, whose founder owns it and has its only seat."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, name: str, *, by: UserId, origin: Origin) -> Entered:
        """Raises InAnOrganisation, InvalidOrganisationName or AccountGone."""
        now = self.clock.now()
        organisation = Organisation.founded(OrganisationName.parse(name), now)
        async with self.unit_of_work() as work:
            user = await work.users.get(by)
            if user is None:
                raise AccountGone
            owner = Member.joining(organisation.id, user, OrganisationRole.OWNER, now).seated(now)
            await work.organisations.add(organisation)
            await work.members.add(owner)
            await tell_assigned(work, organisation, [owner])
            await work.audit.note(
                AuditEntry.in_organisation(
                    "organisation.created", organisation.id, now, origin, by=by, user_id=by
                )
            )
        return Entered(organisation, owner)
