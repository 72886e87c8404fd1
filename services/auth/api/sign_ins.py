"""The devices on which a user is signed in; the contract calls them sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel

from services.auth.api.dependencies import ServiceActions
from services.auth.api.origin import FromWhere
from services.auth.domain.sign_in import SignIn, SignInId
from shared.http.caller import SignedIn, StillSignedIn
from shared.http.problems import problems

router = APIRouter(prefix="/auth/sessions", tags=["sessions"])


class SignInBody(BaseModel):
    """One device; `current` marks the one that asks."""

    id: UUID
    device: str
    current: bool
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, sign_in: SignIn, *, current: UUID) -> Self:
        return cls(
            id=sign_in.id,
            device=sign_in.device,
            current=sign_in.id == current,
            created_at=sign_in.created_at,
            last_used_at=sign_in.rotated_at,
            expires_at=sign_in.expires_at,
        )


class SignInList(BaseModel):
    """A page, the newest first."""

    data: list[SignInBody]
    next_cursor: str | None


@router.get("", response_model=SignInList)
async def list_devices(
    actions: ServiceActions,
    caller: SignedIn,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: UUID | None = None,
) -> SignInList:
    """List where the caller is signed in."""
    found = await actions.list_sign_ins(
        caller.identity.user_id, before=SignInId(cursor) if cursor else None, most=limit + 1
    )
    page = found[:limit]
    return SignInList(
        data=[SignInBody.of(one, current=caller.identity.sign_in_id) for one in page],
        next_cursor=str(page[-1].id) if len(found) > limit else None,
    )


@router.delete("/{sign_in_id}", status_code=204, responses=problems(_404="sign_in_not_found"))
async def end(
    sign_in_id: UUID, actions: ServiceActions, caller: StillSignedIn, origin: FromWhere
) -> None:
    """End the sign-in on a device."""
    await actions.end_sign_in(SignInId(sign_in_id), by=caller.identity.user_id, origin=origin)
