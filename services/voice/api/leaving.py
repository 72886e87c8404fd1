"""What auth asks for a user who is about to delete their account; on the internal port only."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request
from pydantic import BaseModel

from services.voice.api.dependencies import ServiceActions
from shared.errors import Forbidden
from shared.http.caller import OnlyFrom, caller_with, on_behalf_of
from shared.http.problems import problems
from shared.identity import USER_HEADER

router = APIRouter(prefix="/internal", tags=["leaving"])


class VoicesLeft(BaseModel):
    """Voices that could not be deleted at their vendor, and whether these are all."""

    left: list[str]
    are_all: bool


@router.delete("/users/{user_id}/voices", responses=problems(401, 403, 503))
async def remove_every_voice(
    user_id: UUID,
    request: Request,
    actions: ServiceActions,
    _auth: Annotated[str, Depends(OnlyFrom("auth"))],
    access_token: Annotated[str, Header(alias=USER_HEADER, max_length=8_192)],
) -> VoicesLeft:
    """Delete all voices that a user had made, here and at the vendor, by the user's own token: no
    other proof gets their key."""
    caller = await caller_with(request.app, access_token)
    if caller.identity.user_id != user_id:
        raise Forbidden("The token is another user's.")
    left = await actions.remove_every_voice(by=on_behalf_of(caller))
    return VoicesLeft(left=sorted(left.voices), are_all=left.are_all)
