"""Answer other services' questions about somebody's place in an organisation."""

from __future__ import annotations

from services.auth.domain.errors import MemberNotFound
from services.auth.domain.organisation import Member, OrganisationId
from services.auth.domain.ports import NewUnitOfWork
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class LookUpMember:
    """A member as they are now: an access token may be minutes behind."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, organisation_id: OrganisationId, user_id: UserId) -> Member:
        """Raises MemberNotFound."""
        async with self.unit_of_work() as work:
            member = await work.members.get(organisation_id, user_id)
        if member is None:
            raise MemberNotFound(user_id)
        return member

    async def seats_taken(self, organisation_id: OrganisationId) -> int:
        """How many people sit there now."""
        async with self.unit_of_work() as work:
            return (await work.members.headcount(organisation_id)).seated
