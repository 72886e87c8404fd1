"""What other services may ask; on the internal port only."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from services.auth.api.actions import ServiceActions
from shared.http.caller import OnlyFrom
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/internal", tags=["peers"])

Peer = Annotated[str, Depends(OnlyFrom("billing", "keyvault", "chat", "voice"))]


class UserForPeers(BaseModel):
    """What a peer needs to know about a user."""

    id: UUID
    tier: str
    is_active: bool


@router.get(
    "/users/{user_id}", response_model=UserForPeers, responses=problems(_404="user_not_found")
)
async def look_up(user_id: UUID, actions: ServiceActions, _peer: Peer) -> UserForPeers:
    """Look up a user."""
    user = await actions.look_up_user(UserId(user_id))
    return UserForPeers(id=user.id, tier=user.tier, is_active=user.is_active)
