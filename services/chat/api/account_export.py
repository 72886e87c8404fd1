"""What auth collects for a user who asks for all their data; on the internal port only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse

from services.chat.actions.export_user import ExportUser
from services.chat.api.doors import ServiceActions
from services.chat.api.preferences import PreferencesBody
from services.chat.api.session_body import SessionBody
from services.chat.api.session_file import exported_messages
from shared.http.caller import OnlyFrom
from shared.http.export import json_answer
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/internal", tags=["export"])


@router.get(
    "/users/{user_id}/export", response_class=StreamingResponse, responses=problems(401, 403)
)
async def export(
    user_id: UUID, actions: ServiceActions, _auth: Annotated[str, Depends(OnlyFrom("auth"))]
) -> StreamingResponse:
    """All that is kept of a user: what they chose, and their sessions, each with the messages of
    all branches and what was sent along."""
    user = UserId(user_id)
    preference = await actions.export_user.preference(user)
    return await json_answer(
        {
            "preferences": PreferencesBody.of(preference).model_dump(mode="json"),
            "sessions": _sessions(actions.export_user, user),
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
