"""Let somebody at an organisation's keys."""

from __future__ import annotations

from uuid import UUID

from services.keyvault.domain.errors import KeyAdminRequired, OrganisationKeysNotFound
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.ports import KeyAdmins
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class EnterOrganisation:
    """The organisation as an owner of keys, for those who decide about them.

    auth is asked each time: whoever lost the role a second ago changes nothing more.
    """

    key_admins: KeyAdmins

    async def __call__(self, organisation_id: UUID, *, by: UserId) -> Owner:
        """Raises OrganisationKeysNotFound, KeyAdminRequired or DependencyUnavailable."""
        may_manage = await self.key_admins.may_manage_keys(organisation_id, by)
        if may_manage is None:
            raise OrganisationKeysNotFound
        if not may_manage:
            raise KeyAdminRequired
        return Owner.organisation(organisation_id)
