"""List who belongs to an organisation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.auth.actions._enter_organisation import look_into
from services.auth.domain.organisation import Act, Member, OrganisationId
from services.auth.domain.ports import NewUnitOfWork
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ListMembers:
    """Members by when they joined, with what each is there."""

    unit_of_work: NewUnitOfWork

    async def __call__(
        self,
        organisation_id: OrganisationId,
        *,
        by: UserId,
        after: tuple[datetime, UserId] | None,
        most: int,
    ) -> Sequence[Member]:
        """Raises OrganisationNotFound or OrganisationRoleRequired."""
        async with self.unit_of_work() as work:
            entered = await look_into(work, organisation_id, by)
            entered.actor.require(Act.SEE_MEMBERS)
            return await work.members.of(organisation_id, after=after, most=most)
