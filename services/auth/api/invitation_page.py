"""The page behind the link in an invitation."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from services.auth.api.browser import Browser
from services.auth.api.dependencies import ServiceActions
from services.auth.api.forms import documented, query_of
from services.auth.api.login_page import LONGEST_OTP, refusal
from services.auth.api.mail_pages import SmallPage, token_of, typed_in
from services.auth.api.origin import FromWhere
from services.auth.api.page import Field
from services.auth.domain.authorization import Asked
from services.auth.domain.credentials import Credentials
from services.auth.domain.errors import OtpRefused, OtpRequired, WrongCredentials
from services.auth.domain.organisation import InvitationToken
from services.auth.domain.password import LONGEST_PASSWORD, Password
from services.auth.domain.user import LONGEST_EMAIL
from shared.errors import ExpectedFailure

router = APIRouter(prefix="/oauth", tags=["pages"])

_LOGIN = Field(
    "login", "E-mail address or username", "username", is_first=True, longest=LONGEST_EMAIL
)
_PASSWORD = Field("password", "Password", "current-password", "password", longest=LONGEST_PASSWORD)
_OTP = Field(
    "otp",
    "Code",
    "one-time-code",
    longest=LONGEST_OTP,
    hint="Six digits of your authenticator, or one of your recovery codes.",
)

ACCEPT_INVITATION = SmallPage(
    name="accept-invitation",
    title="Join the organisation",
    text="Sign in with the account of the address that was invited. Without one, register first.",
    button="Join",
    done="You are a member now. Sign in anew, or wait a moment: your programs will notice.",
    fields=(_LOGIN, _PASSWORD),
)
_WITH_CODE = replace(ACCEPT_INVITATION, fields=(_LOGIN, _PASSWORD, _OTP))


@router.get("/accept-invitation", response_class=HTMLResponse)
async def ask_to_join(request: Request) -> Response:
    """The page that a mail leads to. Opening it accepts nothing."""
    try:
        return ACCEPT_INVITATION.asking(Browser.of(request), query_of(request))
    except ExpectedFailure as failure:
        return refusal(failure)


@router.post(
    "/accept-invitation",
    response_class=HTMLResponse,
    openapi_extra=documented(("token", "login", "password", "csrf"), ("otp",)),
)
async def join(request: Request, actions: ServiceActions, origin: FromWhere) -> Response:
    """Accept an invitation, by login and password."""
    typed, browser = await typed_in(request), Browser.of(request)
    login, password = typed.once("login") or "", typed.once("password") or ""
    try:
        browser.check(typed, ACCEPT_INVITATION.name)
        if len(login) > LONGEST_EMAIL or len(password) > LONGEST_PASSWORD:
            raise WrongCredentials  # Nobody's; and nothing to spend work on.
        shown = Credentials(login, Password(password), typed.once("otp"), origin)
        await actions.accept_invitation_with_password(InvitationToken(token_of(typed)), shown)
    except ExpectedFailure as failure:
        return _page_for(typed, failure).asking(browser, typed, failure)
    return ACCEPT_INVITATION.answered()


def _page_for(typed: Asked, failure: ExpectedFailure) -> SmallPage:
    wants_code = isinstance(failure, OtpRequired | OtpRefused) or typed.once("otp") is not None
    return _WITH_CODE if wants_code else ACCEPT_INVITATION
