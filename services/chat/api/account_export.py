"""What auth collects for a user who asks for all their data; on the internal port only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse

from services.chat.actions.export_user import ExportUser
from services.chat.api.dependencies import ServiceActions
from services.chat.api.preferences import PreferencesBody
from services.chat.api.session_body import SessionBody
from services.chat.api.session_file import exported_messages
from services.chat.domain.turn import TurnRecord
from shared.http.caller import OnlyFrom
from shared.http.dollars import DollarsBeside
from shared.http.export import json_answer, pages_of
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/internal", tags=["export"])


class TurnRecordBody(DollarsBeside):
    """A turn as its user may look back on it. `kept_answer`: as it is kept to be said again under
    its `idempotency_key`."""

    id: UUID
    session_id: UUID | None
    surface: str
    provider: str
    model: str
    tier: str
    outcome: str | None
    request_id: str
    provider_request_id: str | None
    output_characters: int
    cost_microusd: int | None
    idempotency_key: str | None
    kept_answer: str | None
    created_at: datetime
    settled_at: datetime | None

    @classmethod
    def of(cls, turn: TurnRecord) -> TurnRecordBody:
        kept = turn.kept_answer
        answer = None if kept is None else kept.decode("utf-8", "replace")
        return cls.model_validate({**asdict(turn), "kept_answer": answer})


@router.get(
    "/users/{user_id}/export", response_class=StreamingResponse, responses=problems(401, 403)
)
async def export(
    user_id: UUID, actions: ServiceActions, _auth: Annotated[str, Depends(OnlyFrom("auth"))]
) -> StreamingResponse:
    """All that is kept of a user: what they chose, their sessions, each with the messages of all
    branches and what was sent along, and their turns, those without a session too."""
    user = UserId(user_id)
    preference = await actions.export_user.preference(user)
    return await json_answer(
        {
            "preferences": PreferencesBody.of(preference).model_dump(mode="json"),
            "sessions": _sessions(actions.export_user, user),
            "turns": pages_of(actions.export_user.turns(user), TurnRecordBody.of),
        }
    )


async def _sessions(
    export_user: ExportUser, user_id: UserId
) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    async for page in export_user.sessions(user_id):
        yield [
            {
                **SessionBody.of(session).model_dump(mode="json"),
                "messages": exported_messages(session, export_user),
            }
            for session in page
        ]
