"""Show members their organisation."""

from __future__ import annotations

from services.auth.actions._enter_organisation import look_into
from services.auth.domain.errors import AccountGone
from services.auth.domain.organisation import Entered, Headcount, OrganisationId
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ShowOrganisation:
    """An organisation as one of its members sees it, and how many it has."""

    unit_of_work: NewUnitOfWork

    async def __call__(
        self, organisation_id: OrganisationId, *, by: UserId
    ) -> tuple[Entered, Headcount]:
        """Raises OrganisationNotFound."""
        async with self.unit_of_work() as work:
            return await self._look(work, organisation_id, by)

    async def of(self, user_id: UserId) -> tuple[Entered, Headcount] | None:
        """The one that the user belongs to, if any. Raises AccountGone."""
        async with self.unit_of_work() as work:
            user = await work.users.get(user_id)
            if user is None:
                raise AccountGone
            if user.membership is None:
                return None
            return await self._look(work, OrganisationId(user.membership.organisation_id), user_id)

    async def _look(
        self, work: UnitOfWork, organisation_id: OrganisationId, by: UserId
    ) -> tuple[Entered, Headcount]:
        entered = await look_into(work, organisation_id, by)
        return entered, await work.members.headcount(organisation_id)
