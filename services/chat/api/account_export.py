"""What auth collects for a user who asks for all their data; on the internal port only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse

from services.chat.actions.export_user import ExportUser
from services.chat.api.doors import ServiceActions
from services.chat.api.message_body import MessageBody
from services.chat.api.sessions import SessionBody
from shared.http.caller import OnlyFrom
from shared.http.export import json_answer, pages_of
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/internal", tags=["export"])


@router.get(
    "/users/{user_id}/export", response_class=StreamingResponse, responses=problems(401, 403)
)
async def export(
    user_id: UUID, actions: ServiceActions, _auth: Annotated[str, Depends(OnlyFrom("auth"))]
) -> StreamingResponse:
    """All that is kept of a user: their sessions, each with its messages."""
    return await json_answer({"sessions": _sessions(actions.export_user, UserId(user_id))})


async def _sessions(
    export_user: ExportUser, user_id: UserId
) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    async for page in export_user.sessions(user_id):
        yield [
            {
                **SessionBody.of(session).model_dump(mode="json"),
                "messages": pages_of(export_user.messages(session.id), MessageBody.of),
            }
            for session in page
        ]
