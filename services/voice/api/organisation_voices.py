"""Voices that an organisation's key made, for those who decide about its keys."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from services.voice.api.dependencies import ForCaller, ServiceActions
from services.voice.api.voices import VoiceIdPath
from services.voice.domain.clone import Clone, CloneState
from shared.http.pages import Page
from shared.http.problems import problems

router = APIRouter(
    prefix="/voice/organisations/{organisation_id}/voices",
    tags=["voices"],
    responses=problems(401, 503, _403="voice_admin_required", _404="organisation_voices_not_found"),
)


class OrganisationVoiceBody(BaseModel):
    """A voice in the organisation's account at the vendor. `user_id`: who had it made, and alone
    may speak with it; null, as the name is, once their account is deleted. `removing`: it is to go,
    and the vendor has yet to be told."""

    voice_id: str
    name: str | None
    user_id: UUID | None
    provider: str
    state: CloneState
    created_at: datetime

    @classmethod
    def of(cls, clone: Clone) -> OrganisationVoiceBody:
        return cls(
            voice_id=clone.voice_id or "",
            name=clone.name or None,
            user_id=clone.user_id,
            provider=clone.provider,
            state=clone.state,
            created_at=clone.created_at,
        )


@router.get("", summary="List the voices that an organisation's key made")
async def list_organisation_voices(
    organisation_id: UUID, by: ForCaller, actions: ServiceActions
) -> Page[OrganisationVoiceBody]:
    """Those made here, also of who has left since. For the organisation's owners and admins. One
    page holds them all."""
    clones = await actions.organisation_voices.list(organisation_id, by=by)
    return Page(data=[OrganisationVoiceBody.of(clone) for clone in clones])


@router.delete(
    "/{voice_id}",
    status_code=204,
    summary="Delete a voice that an organisation's key made",
    responses=problems(
        502,
        _404="organisation_voices_not_found, voice_not_found",
        _409="no_usable_key, voice_on_another_key",
    ),
)
async def remove_organisation_voice(
    organisation_id: UUID, voice_id: VoiceIdPath, by: ForCaller, actions: ServiceActions
) -> None:
    """Also at the vendor, with the organisation's key: it takes an owner or admin with a seat and
    without a key of their own for the vendor. While the vendor can't be told, the answer is an
    error and the voice is listed as `removing`; ask again."""
    await actions.organisation_voices.remove(organisation_id, voice_id, by=by)
