"""Voices that an organisation's key made, for those who decide about its keys."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.voice.actions.remove_voice import RemoveVoice
from services.voice.domain.clone import Clone
from services.voice.domain.errors import (
    OrganisationVoicesNotFound,
    VoiceAdminRequired,
    VoiceNotFound,
)
from services.voice.domain.ports import KeyAdmins, NewUnitOfWork
from services.voice.domain.voice import voice_id_of
from shared.identity import OnBehalfOf
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class OrganisationVoices:
    """They lie in the organisation's account at the vendor, and outlast their maker's seat and
    account. Nobody but their maker speaks with them; these may have them deleted.

    auth is asked each time: whoever lost the role a second ago sees and deletes nothing more.
    """

    key_admins: KeyAdmins
    unit_of_work: NewUnitOfWork
    remove_voice: RemoveVoice

    async def list(self, organisation_id: UUID, *, by: OnBehalfOf) -> Sequence[Clone]:
        """The oldest first. Raises OrganisationVoicesNotFound, VoiceAdminRequired, Unavailable."""
        await self._enter(organisation_id, by)
        async with self.unit_of_work() as work:
            return await work.clones.of_organisation(organisation_id)

    async def remove(self, organisation_id: UUID, voice_id: str, *, by: OnBehalfOf) -> None:
        """Delete one, also at the vendor, with the key that is used for the caller.

        Raises OrganisationVoicesNotFound, VoiceAdminRequired, VoiceNotFound, VoiceOnAnotherKey and
        what the vendor raises; in the last two cases the removal stays asked for.
        """
        await self._enter(organisation_id, by)
        known = voice_id_of(voice_id)
        clone = await self.remove_voice.begin_for(organisation_id, known)
        if clone is None:
            raise VoiceNotFound(known)
        await self.remove_voice.go_on(clone, by=by)

    async def _enter(self, organisation_id: UUID, by: OnBehalfOf) -> None:
        may_manage = await self.key_admins.may_manage_keys(organisation_id, by.user_id)
        if may_manage is None:
            raise OrganisationVoicesNotFound
        if not may_manage:
            raise VoiceAdminRequired
