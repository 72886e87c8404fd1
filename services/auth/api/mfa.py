"""The second factor: an authenticator app, recovery codes, and proving again who one is."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from services.auth.actions.show_second_factor import SecondFactorState
from services.auth.api.dependencies import ServiceActions
from services.auth.api.origin import FromWhere
from services.auth.domain.password import LONGEST_PASSWORD, Password
from services.auth.domain.second_factor import LONGEST_OTP
from services.auth.domain.sign_in import SignInId
from shared.http.caller import FreshlyProven, StillSignedIn
from shared.http.problems import problems

router = APIRouter(prefix="/auth", tags=["second factor"])


class SecondFactorBody(BaseModel):
    """Whether an authenticator is active, since when, and how many recovery codes are left."""

    totp: bool
    confirmed_at: datetime | None
    recovery_codes_left: int

    @classmethod
    def of(cls, state: SecondFactorState) -> Self:
        return cls(
            totp=state.confirmed_at is not None,
            confirmed_at=state.confirmed_at,
            recovery_codes_left=state.recovery_codes_left,
        )


class BegunTotpBody(BaseModel):
    """For the authenticator, as a text and as what a QR code holds. Shown here and never again."""

    secret: str
    otpauth_uri: str


class Confirmation(BaseModel):
    """A code of the authenticator that was just set up."""

    model_config = ConfigDict(extra="forbid")

    otp: SecretStr = Field(max_length=LONGEST_OTP)


class RecoveryCodesBody(BaseModel):
    """Each is good once, for the day the authenticator is lost. Shown here and never again."""

    recovery_codes: list[str]


class StepUpRequest(BaseModel):
    """The password once more, and a code if the account has a second factor."""

    model_config = ConfigDict(extra="forbid")

    password: SecretStr = Field(max_length=LONGEST_PASSWORD)
    otp: SecretStr | None = Field(None, max_length=LONGEST_OTP)


class ProvenToken(BaseModel):
    """An access token of the same sign-in, with a fresh proof; the refresh token stays as it is."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a word of RFC 6750
    expires_in: int


@router.get("/mfa", response_model=SecondFactorBody)
async def show(actions: ServiceActions, caller: StillSignedIn) -> SecondFactorBody:
    """Show whether the caller has a second factor."""
    return SecondFactorBody.of(await actions.show_second_factor(caller.identity.user_id))


@router.post(
    "/mfa/totp",
    status_code=201,
    response_model=BegunTotpBody,
    responses=problems(_403="step_up_required", _409="totp_active"),
)
async def begin(
    response: Response, actions: ServiceActions, caller: FreshlyProven
) -> BegunTotpBody:
    """Begin to set up an authenticator; it is active once a code of it was confirmed."""
    begun = await actions.begin_totp(caller.identity.user_id)
    _keep_out_of_caches(response)
    return BegunTotpBody(secret=begun.totp.secret, otpauth_uri=begun.uri)


@router.post(
    "/mfa/totp/confirm",
    response_model=RecoveryCodesBody,
    responses=problems(
        _403="wrong_otp", _409="totp_not_begun, totp_active", _429="too_many_attempts"
    ),
)
async def confirm(
    body: Confirmation,
    response: Response,
    actions: ServiceActions,
    caller: StillSignedIn,
    origin: FromWhere,
) -> RecoveryCodesBody:
    """Activate the authenticator; every other device is signed out."""
    codes = await actions.confirm_totp(
        caller.identity.user_id,
        body.otp.get_secret_value(),
        keep=SignInId(caller.identity.sign_in_id),
        origin=origin,
    )
    _keep_out_of_caches(response)
    return RecoveryCodesBody(recovery_codes=[code.shown for code in codes])


@router.delete(
    "/mfa/totp",
    status_code=204,
    responses=problems(_403="step_up_required", _409="totp_not_active"),
)
async def remove(actions: ServiceActions, caller: FreshlyProven, origin: FromWhere) -> None:
    """Remove the authenticator and its recovery codes; every other device is signed out."""
    await actions.remove_totp(
        caller.identity.user_id, keep=SignInId(caller.identity.sign_in_id), origin=origin
    )


@router.post(
    "/mfa/recovery-codes",
    response_model=RecoveryCodesBody,
    responses=problems(_403="step_up_required", _409="totp_not_active"),
)
async def renew(
    response: Response, actions: ServiceActions, caller: FreshlyProven, origin: FromWhere
) -> RecoveryCodesBody:
    """Hand out ten new recovery codes in place of the old ones."""
    codes = await actions.renew_recovery_codes(caller.identity.user_id, origin)
    _keep_out_of_caches(response)
    return RecoveryCodesBody(recovery_codes=[code.shown for code in codes])


@router.post(
    "/step-up",
    response_model=ProvenToken,
    responses=problems(
        _403="wrong_password, otp_required, wrong_otp",
        _429="too_many_attempts",
        _503="signing_keys_unavailable, passwords_busy",
    ),
)
async def step_up(
    body: StepUpRequest,
    response: Response,
    actions: ServiceActions,
    caller: StillSignedIn,
    origin: FromWhere,
) -> ProvenToken:
    """Prove again who one is, for what a sign-in of this morning is not enough for."""
    token = await actions.step_up(
        caller.identity.user_id,
        sign_in_id=SignInId(caller.identity.sign_in_id),
        password=Password(body.password.get_secret_value()),
        code=body.otp.get_secret_value() if body.otp else None,
        origin=origin,
    )
    _keep_out_of_caches(response)
    expires_in = int(actions.step_up.issuer.access_lifetime.total_seconds())
    return ProvenToken(access_token=token, expires_in=expires_in)


def _keep_out_of_caches(response: Response) -> None:
    response.headers["cache-control"] = "no-store"
