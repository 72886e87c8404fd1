"""What auth collects for a user who asks for all their data; on the internal port only."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from services.voice.api.dependencies import ServiceActions
from services.voice.domain.speech import SpeechRecord
from shared.http.caller import OnlyFrom
from shared.http.export import json_answer, pages_of
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/internal", tags=["export"])


class SpeechBody(BaseModel):
    """A speech as its user may look back on it."""

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
    def of(cls, speech: SpeechRecord) -> SpeechBody:
        return cls.model_validate(speech, from_attributes=True)


@router.get(
    "/users/{user_id}/export", response_class=StreamingResponse, responses=problems(401, 403)
)
async def export(
    user_id: UUID, actions: ServiceActions, _auth: Annotated[str, Depends(OnlyFrom("auth"))]
) -> StreamingResponse:
    """All that is kept of a user: which speeches there were."""
    speeches = actions.export_user.speeches(UserId(user_id))
    return await json_answer({"speeches": pages_of(speeches, SpeechBody.of)})
