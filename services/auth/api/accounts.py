"""Accounts: opening one, looking at it, renaming it."""

from __future__ import annotations

from datetime import datetime
from typing import Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from services.auth.api.dependencies import ServiceActions
from services.auth.api.origin import FromWhere
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.password import LONGEST_PASSWORD, Password
from services.auth.domain.user import LONGEST_EMAIL, LONGEST_USERNAME, Role, User
from shared.http.caller import SignedIn, StillSignedIn
from shared.http.problems import problems

router = APIRouter(prefix="/auth", tags=["accounts"])


class UserBody(BaseModel):
    """An account as its owner sees it."""

    id: UUID
    email: str
    username: str
    tier: str
    is_active: bool
    email_verified: bool
    organisation: UUID | None
    organisation_role: OrganisationRole | None
    role: Role
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, user: User) -> Self:
        return cls(
            id=user.id,
            email=user.email.text,
            username=user.username.text,
            tier=user.effective_tier,
            is_active=user.is_active,
            email_verified=user.email_verified,
            organisation=user.membership.organisation_id if user.membership else None,
            organisation_role=user.membership.role if user.membership else None,
            role=user.role,
            created_at=user.created_at,
            updated_at=user.updated_at,
        )


class Registration(BaseModel):
    """Whoever wants an account."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=LONGEST_EMAIL)
    username: str = Field(max_length=LONGEST_USERNAME)
    password: SecretStr = Field(max_length=LONGEST_PASSWORD)


class Registered(BaseModel):
    """The new account."""

    user: UserBody


class AccountChange(BaseModel):
    """What its owner may change on an account; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    username: str | None = Field(None, max_length=LONGEST_USERNAME)


@router.post(
    "/register",
    status_code=201,
    response_model=Registered,
    responses=problems(
        _409="username_taken",
        _422="password_refused, invalid_email, …",
        _429="too_many_attempts",
        _503="passwords_busy",
    ),
)
async def register(body: Registration, actions: ServiceActions, origin: FromWhere) -> Registered:
    """Open an account. The answer is the same whether or not somebody has this address already;
    what there is to say about that comes by mail."""
    user = await actions.register(
        origin=origin,
        email=body.email,
        username=body.username,
        password=Password(body.password.get_secret_value()),
    )
    return Registered(user=UserBody.of(user))


@router.get("/me", response_model=UserBody)
async def show(actions: ServiceActions, caller: SignedIn) -> UserBody:
    """Show the account of the caller."""
    return UserBody.of(await actions.show_account(caller.identity.user_id))


@router.patch("/me", response_model=UserBody, responses=problems(_409="username_taken"))
async def change(
    body: AccountChange, actions: ServiceActions, caller: StillSignedIn, origin: FromWhere
) -> UserBody:
    """Change the caller's username."""
    if body.username is None:
        return UserBody.of(await actions.show_account(caller.identity.user_id))
    renamed = await actions.rename_account(caller.identity.user_id, body.username, origin)
    return UserBody.of(renamed)
