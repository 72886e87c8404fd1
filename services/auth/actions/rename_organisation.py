"""Give an organisation another name."""

from __future__ import annotations

from services.auth.actions._enter_organisation import enter
from services.auth.domain.audit import AuditEntry
from services.auth.domain.organisation import Act, OrganisationId, OrganisationName
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RenameOrganisation:
    """Change the name, by which its invitations speak."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self, organisation_id: OrganisationId, name: str, *, by: UserId, origin: Origin
    ) -> None:
        """Raises OrganisationNotFound, OrganisationRoleRequired or InvalidOrganisationName."""
        new_name, now = OrganisationName.parse(name), self.clock.now()
        async with self.unit_of_work() as work:
            entered = await enter(work, organisation_id, by)
            entered.actor.require(Act.RENAME)
            await work.organisations.save(entered.organisation.renamed(new_name, now))
            await work.audit.note(
                AuditEntry.in_organisation(
                    "organisation.renamed", organisation_id, now, origin, by=by
                )
            )
