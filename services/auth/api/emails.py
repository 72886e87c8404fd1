"""E-mail addresses: proving one, and moving to another."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from services.auth.api.dependencies import ServiceActions
from services.auth.api.origin import FromWhere
from services.auth.api.passwords import LONGEST_PROOF, MailPromised
from services.auth.domain.mailed_proof import ProofToken
from services.auth.domain.password import LONGEST_PASSWORD, Password
from services.auth.domain.user import LONGEST_EMAIL
from shared.http.caller import StillSignedIn
from shared.http.problems import problems

router = APIRouter(prefix="/auth", tags=["accounts"])


class EmailProof(BaseModel):
    """The token of the mail."""

    model_config = ConfigDict(extra="forbid")

    token: SecretStr = Field(max_length=LONGEST_PROOF)


class EmailChange(BaseModel):
    """The new address, and the password as a proof."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=LONGEST_EMAIL)
    password: SecretStr = Field(max_length=LONGEST_PASSWORD)


@router.post(
    "/verify-email",
    status_code=204,
    responses=problems(_409="address_taken", _422="proof_refused"),
)
async def verify(body: EmailProof, actions: ServiceActions, origin: FromWhere) -> None:
    """Prove an address: of a new account, or the one to which an account is to move."""
    await actions.verify_email(ProofToken(body.token.get_secret_value()), origin)


@router.post("/verify-email/resend", status_code=204)
async def resend(actions: ServiceActions, caller: StillSignedIn) -> None:
    """Ask for the mail again that proves the caller's address; at most one a minute is sent."""
    await actions.resend_verification(caller.identity.user_id)


@router.post(
    "/me/email",
    status_code=202,
    response_model=MailPromised,
    responses=problems(
        _403="wrong_password",
        _422="invalid_email",
        _429="too_many_attempts",
        _503="passwords_busy",
    ),
)
async def change(
    body: EmailChange, actions: ServiceActions, caller: StillSignedIn, origin: FromWhere
) -> MailPromised:
    """Ask to move the account to another address; done once that address is proven."""
    await actions.request_email_change(
        caller.identity.user_id,
        email=body.email,
        password=Password(body.password.get_secret_value()),
        origin=origin,
    )
    return MailPromised(detail="A mail to the new address says how to go on.")
