"""Tokens for OAuth clients: exchanging a code, staying signed in, signing out."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from services.auth.actions import Actions
from services.auth.api.dependencies import ServiceActions
from services.auth.api.forms import documented, form_of
from services.auth.api.origin import FromWhere
from services.auth.domain.authorization import Asked, Redemption
from services.auth.domain.errors import (
    OAuthRefused,
    RefreshRefused,
    RefreshReused,
    SignInUndone,
    UnknownClient,
    UnsupportedGrantType,
)
from services.auth.domain.origin import Origin
from services.auth.domain.sign_in import SignInId
from services.auth.domain.token_pair import TokenPair
from shared.errors import ExpectedFailure, Unauthenticated
from shared.http.errors import PROBLEM, problem_of, problem_response
from shared.http.problems import problems
from shared.tokens import TokenVerifier

router = APIRouter(prefix="/oauth", tags=["oauth"])

_NOT_STORED = {"cache-control": "no-store", "pragma": "no-cache"}


class ClientTokens(BaseModel):
    """RFC 6749, section 5.1."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a word of RFC 6750
    expires_in: int
    refresh_token: str
    scope: str


class Revoked(BaseModel):
    """RFC 7009: whether there was such a token is not told."""


@router.post(
    "/token",
    response_model=ClientTokens,
    responses=problems(
        _400="invalid_oauth_request, code_refused, refresh_refused, unsupported_grant_type, …",
        _401="unknown_client",
        _503="signing_keys_unavailable",
    ),
    openapi_extra=documented(
        ("grant_type", "client_id"), ("code", "redirect_uri", "code_verifier", "refresh_token")
    ),
)
async def exchange(
    request: Request, response: Response, actions: ServiceActions, origin: FromWhere
) -> Any:
    """Exchange a code or a refresh token for the next pair."""
    try:
        pair = await _pair(await form_of(request), actions, origin)
    except ExpectedFailure as failure:
        return refused(request, failure)
    response.headers.update(_NOT_STORED)
    return ClientTokens(
        access_token=pair.access_token,
        expires_in=int(pair.expires_in.total_seconds()),
        refresh_token=pair.refresh_token,
        scope=" ".join(sorted(pair.scopes)),
    )


@router.post(
    "/revoke",
    response_model=Revoked,
    responses=problems(_400="invalid_oauth_request", _401="unknown_client"),
    openapi_extra=documented(("token", "client_id"), ("token_type_hint",)),
)
async def revoke(
    request: Request, response: Response, actions: ServiceActions, origin: FromWhere
) -> Any:
    """Sign out: end the sign-in that a token belongs to."""
    try:
        form = await form_of(request)
        token, client_id = form.required("token"), form.required("client_id")
        session_id = await _session_of(request, token)
        await actions.revoke_token(token, session_id, client_id=client_id, origin=origin)
    except ExpectedFailure as failure:
        return refused(request, failure)
    response.headers.update(_NOT_STORED)
    return Revoked()


async def _pair(form: Asked, actions: Actions, origin: Origin) -> TokenPair:
    grant = form.required("grant_type")
    client_id = form.required("client_id")
    if grant == "refresh_token":
        return await actions.refresh(form.required("refresh_token"), origin, client_id=client_id)
    if grant != "authorization_code":
        raise UnsupportedGrantType
    shown = Redemption(
        client_id,
        form.required("code"),
        redirect_uri=form.required("redirect_uri"),
        verifier=form.required("code_verifier"),
    )
    return await actions.redeem_code(shown, origin)


async def _session_of(request: Request, token: str) -> SignInId | None:
    """Whose access token it is; None for what is none."""
    verifier: TokenVerifier = request.app.state.verifier
    if token.count(".") != 2:
        return None
    try:
        return SignInId((await verifier.verify(token)).sign_in_id)
    except Unauthenticated:
        return None


def refused(request: Request, failure: ExpectedFailure) -> Response:
    """A problem document like any other that OAuth clients can read as well (RFC 6749, 5.2).

    Their libraries want `application/json`, and say so in Accept.
    """
    status, document, headers = problem_of(failure)
    error = "temporarily_unavailable" if status in (429, 503) else "invalid_request"
    if isinstance(failure, OAuthRefused):
        error, status = failure.error, 401 if isinstance(failure, UnknownClient) else 400
    elif isinstance(failure, RefreshRefused | RefreshReused | SignInUndone):
        error, status = "invalid_grant", 400
        headers.pop("www-authenticate", None)
    document |= {"status": status, "error": error, "error_description": failure.message}
    answer = problem_response(status, document, headers | _NOT_STORED)
    accepted = request.headers.get("accept", "")
    if "application/json" in accepted and PROBLEM not in accepted:
        answer.headers["content-type"] = "application/json"
    return answer
