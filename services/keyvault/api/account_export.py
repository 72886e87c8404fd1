"""What auth collects for a user who asks for all their data; on the internal port only."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse

from services.keyvault.api.dependencies import ServiceActions
from services.keyvault.api.keys import AuditLine, KeyView
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
    """All that is kept of a user. No key is in it."""
    user = UserId(user_id)
    return await json_answer(
        {
            "keys": pages_of(actions.export_user.keys(user), KeyView.of),
            "audit": pages_of(actions.export_user.trail(user), AuditLine.of),
        }
    )
