"""Come into an organisation as one of its members, as every act in it begins."""

from __future__ import annotations

from services.auth.domain.errors import OrganisationNotFound
from services.auth.domain.organisation import Entered, Organisation, OrganisationId
from services.auth.domain.ports import UnitOfWork
from shared.ids import UserId


async def look_into(work: UnitOfWork, organisation_id: OrganisationId, by: UserId) -> Entered:
    """To look only. Raises OrganisationNotFound, for another's organisation too."""
    return await _entered(work, await work.organisations.get(organisation_id), organisation_id, by)


async def enter(work: UnitOfWork, organisation_id: OrganisationId, by: UserId) -> Entered:
    """To change something: nobody else does until the work ends. Raises OrganisationNotFound."""
    # Whoever is no member must not make members wait, so the lock comes after this first look.
    if await work.members.get(organisation_id, by) is None:
        raise OrganisationNotFound(organisation_id)
    held = await work.organisations.hold(organisation_id)
    return await _entered(work, held, organisation_id, by)


async def _entered(
    work: UnitOfWork, found: Organisation | None, organisation_id: OrganisationId, by: UserId
) -> Entered:
    # Read after the lock: whoever was removed while they waited for it is no member any more.
    actor = await work.members.get(organisation_id, by)
    if found is None or actor is None:
        raise OrganisationNotFound(organisation_id)
    return Entered(found, actor)
