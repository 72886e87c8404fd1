"""Passwords: changing one while signed in."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from services.auth.api.actions import ServiceActions
from services.auth.domain.password import LONGEST_PASSWORD, Password
from services.auth.domain.sign_in import SignInId
from shared.http.caller import SignedIn
from shared.http.problems import problems

router = APIRouter(prefix="/auth/password", tags=["passwords"])


class PasswordChange(BaseModel):
    """The old password as a proof, and the new one."""

    model_config = ConfigDict(extra="forbid")

    current_password: SecretStr = Field(max_length=LONGEST_PASSWORD)
    new_password: SecretStr = Field(max_length=LONGEST_PASSWORD)


@router.post(
    "",
    status_code=204,
    responses=problems(_403="wrong_password", _422="password_refused", _429="too_many_attempts"),
)
async def change(body: PasswordChange, actions: ServiceActions, caller: SignedIn) -> None:
    """Change the password; every other device is signed out."""
    await actions.change_password(
        caller.identity.user_id,
        current=Password(body.current_password.get_secret_value()),
        new=Password(body.new_password.get_secret_value()),
        keep=SignInId(caller.identity.sign_in_id),
    )
