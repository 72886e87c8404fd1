"""Tokens: signing in, staying signed in, signing out."""

from __future__ import annotations

from typing import Literal, Self

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from services.auth.api.accounts import UserBody
from services.auth.api.dependencies import ServiceActions
from services.auth.api.origin import FromWhere
from services.auth.domain.credentials import Credentials
from services.auth.domain.password import LONGEST_PASSWORD, Password
from services.auth.domain.sign_in import SignInId
from services.auth.domain.token_pair import TokenPair
from services.auth.domain.user import LONGEST_EMAIL
from shared.http.caller import SignedIn
from shared.http.problems import problems

router = APIRouter(prefix="/auth", tags=["tokens"])


class Login(BaseModel):
    """`login` is the e-mail address or the username."""

    model_config = ConfigDict(extra="forbid")

    login: str = Field(max_length=LONGEST_EMAIL)
    password: SecretStr = Field(max_length=LONGEST_PASSWORD)
    otp: SecretStr | None = Field(None, max_length=64)


class RefreshRequest(BaseModel):
    """The refresh token of the last answer; it is good once."""

    model_config = ConfigDict(extra="forbid")

    refresh_token: SecretStr = Field(max_length=512)


class Tokens(BaseModel):
    """A pair of tokens; `expires_in` is the access token's, in seconds."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a word of RFC 6750
    expires_in: int
    user: UserBody

    @classmethod
    def of(cls, pair: TokenPair) -> Self:
        return cls(
            access_token=pair.access_token,
            refresh_token=pair.refresh_token,
            expires_in=int(pair.expires_in.total_seconds()),
            user=UserBody.of(pair.user),
        )


@router.post(
    "/login",
    response_model=Tokens,
    responses=problems(
        _401="wrong_credentials, otp_refused",
        _403="otp_required, account_inactive",
        _429="too_many_attempts",
        _503="signing_keys_unavailable, passwords_busy",
    ),
)
async def login(
    body: Login, response: Response, actions: ServiceActions, origin: FromWhere
) -> Tokens:
    """Sign in with a password, and a code if the account has a second factor."""
    pair = await actions.sign_in_with_password(
        Credentials(
            login=body.login,
            password=Password(body.password.get_secret_value()),
            otp=body.otp.get_secret_value() if body.otp else None,
            origin=origin,
        )
    )
    _keep_out_of_caches(response)
    return Tokens.of(pair)


@router.post(
    "/refresh",
    response_model=Tokens,
    responses=problems(
        _401="refresh_refused, refresh_reused, sign_in_undone", _503="signing_keys_unavailable"
    ),
)
async def refresh(
    body: RefreshRequest, response: Response, actions: ServiceActions, origin: FromWhere
) -> Tokens:
    """Exchange a refresh token for the next pair."""
    pair = await actions.refresh(body.refresh_token.get_secret_value(), origin)
    _keep_out_of_caches(response)
    return Tokens.of(pair)


@router.post("/logout", status_code=204, responses=problems(_401="session_ended"))
async def logout(
    actions: ServiceActions, caller: SignedIn, origin: FromWhere, everywhere: bool = False
) -> None:
    """Sign out on this device, or on all."""
    identity = caller.identity
    await actions.sign_out(
        SignInId(identity.sign_in_id), of=identity.user_id, everywhere=everywhere, origin=origin
    )


def _keep_out_of_caches(response: Response) -> None:
    response.headers["cache-control"] = "no-store"
