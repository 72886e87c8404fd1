"""Passwords: changing one while signed in, and choosing a new one when it is forgotten."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from services.auth.api.dependencies import ServiceActions
from services.auth.api.origin import FromWhere
from services.auth.domain.mailed_proof import ProofToken
from services.auth.domain.password import LONGEST_PASSWORD, Password
from services.auth.domain.sign_in import SignInId
from services.auth.domain.user import LONGEST_EMAIL
from shared.http.caller import StillSignedIn
from shared.http.problems import problems

router = APIRouter(prefix="/auth/password", tags=["passwords"])

LONGEST_PROOF = 128


class PasswordChange(BaseModel):
    """The old password as a proof, and the new one."""

    model_config = ConfigDict(extra="forbid")

    current_password: SecretStr = Field(max_length=LONGEST_PASSWORD)
    new_password: SecretStr = Field(max_length=LONGEST_PASSWORD)


class Forgotten(BaseModel):
    """The address of an account."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=LONGEST_EMAIL)


class MailPromised(BaseModel):
    """What follows comes by mail, or does not: the answer says no more than this."""

    detail: str


class PasswordReset(BaseModel):
    """The token of the mail, and the new password."""

    model_config = ConfigDict(extra="forbid")

    token: SecretStr = Field(max_length=LONGEST_PROOF)
    new_password: SecretStr = Field(max_length=LONGEST_PASSWORD)


@router.post(
    "",
    status_code=204,
    responses=problems(
        _403="wrong_password",
        _422="password_refused",
        _429="too_many_attempts",
        _503="passwords_busy",
    ),
)
async def change(
    body: PasswordChange, actions: ServiceActions, caller: StillSignedIn, origin: FromWhere
) -> None:
    """Change the password; every other device is signed out."""
    await actions.change_password(
        caller.identity.user_id,
        current=Password(body.current_password.get_secret_value()),
        new=Password(body.new_password.get_secret_value()),
        keep=SignInId(caller.identity.sign_in_id),
        origin=origin,
    )


@router.post(
    "/forgot",
    status_code=202,
    response_model=MailPromised,
    responses=problems(_422="invalid_email", _429="too_many_attempts"),
)
async def forgot(body: Forgotten, actions: ServiceActions, origin: FromWhere) -> MailPromised:
    """Ask for a mail with which to choose a new password."""
    await actions.request_password_reset(body.email, origin)
    return MailPromised(detail="If there is an account with this address, a mail is on its way.")


@router.post(
    "/reset",
    status_code=204,
    responses=problems(
        _409="address_taken", _422="proof_refused, password_refused", _503="passwords_busy"
    ),
)
async def reset(body: PasswordReset, actions: ServiceActions, origin: FromWhere) -> None:
    """Choose a new password; every device is signed out."""
    await actions.reset_password(
        ProofToken(body.token.get_secret_value()),
        Password(body.new_password.get_secret_value()),
        origin,
    )
