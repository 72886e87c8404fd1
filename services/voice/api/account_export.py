"""What auth collects for a user who asks for all their data; on the internal port only."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from services.voice.api.dependencies import ServiceActions
from services.voice.domain.clone import Clone
from services.voice.domain.own_settings import OwnSettings
from services.voice.domain.speech import SpeechRecord
from shared.http.caller import OnlyFrom
from shared.http.export import json_answer, pages_of
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/internal", tags=["export"])


class KeptBody(BaseModel):
    """How much audio is kept to be said again."""

    utterances: int
    bytes: int
    oldest_at: datetime | None


class SpeechRecordBody(BaseModel):
    """A speech as its user may look back on it. `characters` of its text; `charged_characters` are
    credits, as the vendor counts."""

    id: UUID
    provider: str
    voice_id: str
    model: str
    format: str
    characters: int
    outcome: str | None
    charged_characters: int | None
    request_id: str
    created_at: datetime
    settled_at: datetime | None

    @classmethod
    def of(cls, speech: SpeechRecord) -> SpeechRecordBody:
        return cls.model_validate(speech, from_attributes=True)


class OwnSettingsRecordBody(BaseModel):
    """How a user wants a voice to speak."""

    voice_id: str
    settings: dict[str, float | bool]
    updated_at: datetime

    @classmethod
    def of(cls, own: OwnSettings) -> OwnSettingsRecordBody:
        return cls(voice_id=own.voice_id, settings=own.settings.named, updated_at=own.updated_at)


class CloneBody(BaseModel):
    """A voice that a user had made; no id while it is being made. `organisation_id`: whose key made
    it, where that was not the user's own."""

    id: UUID
    provider: str
    voice_id: str | None
    name: str
    state: str
    consent_version: str
    sample_sha256s: list[str]
    organisation_id: UUID | None
    created_at: datetime

    @classmethod
    def of(cls, clone: Clone) -> CloneBody:
        return cls.model_validate({**asdict(clone), "sample_sha256s": list(clone.sample_sha256s)})


@router.get(
    "/users/{user_id}/export", response_class=StreamingResponse, responses=problems(401, 403)
)
async def export(
    user_id: UUID, actions: ServiceActions, _auth: Annotated[str, Depends(OnlyFrom("auth"))]
) -> StreamingResponse:
    """All that is kept of a user: which speeches there were, and how much audio there is."""
    speeches = actions.export_user.speeches(UserId(user_id))
    kept = await actions.export_user.kept(UserId(user_id))
    return await json_answer(
        {
            "speeches": pages_of(speeches, SpeechRecordBody.of),
            "voice_settings": pages_of(
                actions.export_user.own_settings(UserId(user_id)), OwnSettingsRecordBody.of
            ),
            "cloned_voices": pages_of(actions.export_user.clones(UserId(user_id)), CloneBody.of),
            "kept_audio": KeptBody.model_validate(kept, from_attributes=True).model_dump(),
        }
    )
