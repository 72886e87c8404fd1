"""Personal access tokens: what a user lets a tool have in place of their password."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from services.auth.api.dependencies import ServiceActions
from services.auth.api.origin import FromWhere
from services.auth.domain.personal_token import (
    LONGEST_LIFETIME,
    LONGEST_NAME,
    PersonalToken,
    PersonalTokenId,
)
from services.auth.domain.sign_in import SignInId
from shared.http.caller import FreshlyProven, SignedIn, StillSignedIn
from shared.http.problems import problems

router = APIRouter(prefix="/auth/tokens", tags=["personal tokens"])

_Scope = Annotated[str, Field(max_length=32)]


class TokenWish(BaseModel):
    """A token for a tool: what it is for, what it may do, and for how long."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    scopes: list[_Scope] = Field(
        min_length=1,
        max_length=10,
        description="Out of chat, voice, billing:read, as far as the sign-in has them.",
    )
    expires_in_days: int = Field(ge=1, le=LONGEST_LIFETIME.days, strict=True)


class PersonalTokenBody(BaseModel):
    """A token as its owner sees it; `hint` is its end, `client_id` the OAuth client in whose
    sign-in it was made."""

    id: UUID
    name: str
    scopes: list[str]
    hint: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    client_id: str | None

    @classmethod
    def of(cls, token: PersonalToken) -> Self:
        return cls(**_shown(token), last_used_at=token.last_used_at, client_id=token.client_id)


class IssuedTokenBody(BaseModel):
    """A new token. `token` is shown here and never again."""

    id: UUID
    name: str
    scopes: list[str]
    hint: str
    token: str
    created_at: datetime
    expires_at: datetime


class PersonalTokenList(BaseModel):
    """A page, the newest first."""

    data: list[PersonalTokenBody]
    next_cursor: str | None


def _shown(token: PersonalToken) -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": sorted(token.scopes),
        "hint": token.hint,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
    }


@router.post(
    "",
    status_code=201,
    response_model=IssuedTokenBody,
    responses=problems(
        _403="step_up_required, scope_missing, scope_not_held",
        _409="too_many_personal_tokens",
        _422="scope_not_grantable, invalid_token_name, …",
    ),
)
async def issue(
    body: TokenWish,
    response: Response,
    actions: ServiceActions,
    caller: FreshlyProven,
    origin: FromWhere,
) -> IssuedTokenBody:
    """Make a personal access token, which may do no more than the sign-in that asks.

    One that is made in the sign-in of an OAuth client ends when an operator disables that client.
    """
    token, text = await actions.issue_personal_token(
        caller.identity.user_id,
        within=SignInId(caller.identity.sign_in_id),
        name=body.name,
        scopes=body.scopes,
        lifetime=timedelta(days=body.expires_in_days),
        origin=origin,
    )
    response.headers["cache-control"] = "no-store"
    return IssuedTokenBody(**_shown(token), token=text.text)


@router.get("", response_model=PersonalTokenList)
async def list_tokens(
    actions: ServiceActions,
    caller: SignedIn,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: UUID | None = None,
) -> PersonalTokenList:
    """List the caller's personal access tokens that are still good."""
    found = await actions.list_personal_tokens(
        caller.identity.user_id,
        before=PersonalTokenId(cursor) if cursor else None,
        most=limit + 1,
    )
    page = found[:limit]
    return PersonalTokenList(
        data=[PersonalTokenBody.of(one) for one in page],
        next_cursor=str(page[-1].id) if len(found) > limit else None,
    )


@router.delete("/{token_id}", status_code=204, responses=problems(_404="personal_token_not_found"))
async def revoke(
    token_id: UUID, actions: ServiceActions, caller: StillSignedIn, origin: FromWhere
) -> None:
    """Revoke a personal access token."""
    await actions.revoke_personal_token(
        PersonalTokenId(token_id), by=caller.identity.user_id, origin=origin
    )
