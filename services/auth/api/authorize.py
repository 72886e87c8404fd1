"""The authorization endpoint: where a client sends a browser, and a person signs in."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from services.auth.actions import Actions
from services.auth.api.browser import Browser
from services.auth.api.dependencies import ServiceActions
from services.auth.api.forms import documented, form_of, query_of
from services.auth.api.login_page import CARRIED, NAME, LoginPage, refusal
from services.auth.api.origin import FromWhere
from services.auth.domain.authorization import PARAMETERS, Asked, AuthorizationRequest
from services.auth.domain.credentials import Credentials
from services.auth.domain.errors import OAuthRefused, OtpRefused, OtpRequired, WrongCredentials
from services.auth.domain.first_step import FirstStep
from services.auth.domain.origin import Origin
from services.auth.domain.password import LONGEST_PASSWORD, Password
from services.auth.domain.user import LONGEST_EMAIL
from shared.errors import ExpectedFailure, LimitReached, Unavailable

router = APIRouter(prefix="/oauth", tags=["oauth"])

_OPTIONAL = ("state", "scope")
_REQUIRED = tuple(name for name in PARAMETERS if name not in _OPTIONAL)
_IN_QUERY: dict[str, Any] = {
    "parameters": [
        {"name": name, "in": "query", "required": name in _REQUIRED, "schema": {"type": "string"}}
        for name in PARAMETERS
    ]
}
_REDIRECT: dict[int | str, dict[str, Any]] = {
    303: {"description": "Back to the client: with `code`, or with `error`; and `state`, `iss`."},
    400: {
        "description": "A page: the client or its redirect URI is not known.",
        "content": {HTMLResponse.media_type: {"schema": {"type": "string"}}},
    },
}


@router.get("/authorize", response_class=HTMLResponse, responses=_REDIRECT, openapi_extra=_IN_QUERY)
async def show_login(request: Request, actions: ServiceActions) -> Response:
    """Show the login page to somebody whom a client has sent."""
    try:
        asked = query_of(request)
        authorization = await _read(actions, asked)
    except ExpectedFailure as failure:
        return refusal(failure)
    if isinstance(authorization, Response):
        return authorization
    return LoginPage(authorization, asked, Browser.of(request)).first_step()


@router.post(
    "/authorize",
    response_class=HTMLResponse,
    responses=_REDIRECT | {200: {"description": "The page again, which says what was wrong."}},
    openapi_extra=documented((*_REQUIRED, "csrf"), (*_OPTIONAL, "login", "password", "otp")),
)
async def log_in(request: Request, actions: ServiceActions, origin: FromWhere) -> Response:
    """Take what was typed on the login page, and send the browser back with a code."""
    try:
        form = await form_of(request)
        authorization = await _read(actions, form)
    except ExpectedFailure as failure:
        return refusal(failure)
    if isinstance(authorization, Response):
        return authorization
    page = LoginPage(authorization, form, Browser.of(request))
    return await _signed_in(page, actions, origin)


async def _read(actions: Actions, asked: Asked) -> AuthorizationRequest | Response:
    """The request, or the client's answer to a bad one. Raises when it is no client of ours."""
    address = await actions.find_return_address(asked)
    try:
        return AuthorizationRequest.read(asked, address)
    except OAuthRefused as refused:
        return _sent_to(address.with_error(refused))


async def _signed_in(page: LoginPage, actions: Actions, origin: Origin) -> Response:
    typed, step = page.asked, FirstStep("", Password(""))
    try:
        page.browser.check(typed, NAME)
        step = _first_step(page, actions)
        shown = Credentials(step.login, step.password, typed.once("otp"), origin)
        return _sent_to(await actions.authorize_client(page.request, shown))
    except OtpRequired:
        return page.second_step(step.login, _carried(page, actions, step))
    except (OtpRefused, LimitReached, Unavailable) as failure:
        if typed.once(CARRIED) is None:
            return page.first_step(failure, login=step.login)
        return page.second_step(step.login, _carried(page, actions, step), failure)
    except ExpectedFailure as failure:
        return page.first_step(failure, login=step.login)


def _first_step(page: LoginPage, actions: Actions) -> FirstStep:
    carried = page.asked.once(CARRIED)
    if carried is not None:
        return actions.carry_first_step.open(carried, page.browser.secret)
    login, password = page.asked.once("login") or "", page.asked.once("password") or ""
    if len(login) > LONGEST_EMAIL or len(password) > LONGEST_PASSWORD:
        raise WrongCredentials  # Nobody's; and nothing to spend work on.
    return FirstStep(login, Password(password))


def _carried(page: LoginPage, actions: Actions, step: FirstStep) -> str:
    # What was carried goes on as it is: sealed anew it would never get old.
    return page.asked.once(CARRIED) or actions.carry_first_step.seal(step, page.browser.secret)


def _sent_to(address: str) -> Response:
    headers = {
        "location": address,
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
    }
    return Response(status_code=303, headers=headers)
