"""The page on which somebody opens an account, beside the login page and for those it sends here.

It carries the client's request along, so that the way back to the login page is not lost.
"""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from services.auth.api.browser import Browser
from services.auth.api.dependencies import ServiceActions
from services.auth.api.forms import documented, query_of
from services.auth.api.login_page import PATH, refusal, status_of_form, wrong
from services.auth.api.mail_pages import typed_in
from services.auth.api.origin import FromWhere
from services.auth.api.page import Field, Html, form, link, page, paragraph, success
from services.auth.domain.authorization import PARAMETERS, Asked
from services.auth.domain.errors import InvalidEmail, PasswordRefused
from services.auth.domain.password import LONGEST_PASSWORD, SHORTEST_PASSWORD, Password
from services.auth.domain.user import LONGEST_EMAIL, LONGEST_USERNAME
from shared.errors import ExpectedFailure
from shared.values import dataclass

router = APIRouter(prefix="/oauth", tags=["pages"])

_NAME = "register"
_PASSWORD_HINT = f"At least {SHORTEST_PASSWORD} characters; several words are a good choice."


@dataclass(frozen=True, slots=True)
class RegisterPage:
    """The page in one browser, with what was asked or typed."""

    asked: Asked
    browser: Browser

    def asking(self, failure: ExpectedFailure | None = None) -> HTMLResponse:
        """The form, once more if something was wrong with what was typed."""
        email, username = self.asked.once("email") or "", self.asked.once("username") or ""
        fields = [
            Field(
                "email",
                "E-mail address",
                "email",
                "email",
                value=email,
                is_first=not email,
                longest=LONGEST_EMAIL,
            ),
            Field("username", "Username", "username", value=username, longest=LONGEST_USERNAME),
            Field(
                "password",
                "Password",
                "new-password",
                "password",
                is_first=bool(email),
                longest=LONGEST_PASSWORD,
                hint=_PASSWORD_HINT,
            ),
        ]
        hidden = self._request() | self.browser.hidden(_NAME)
        entry = form(f"/oauth/{_NAME}", "Create the account", hidden, fields)
        content = wrong(failure) + entry + self._way_back("You have an account? Sign in")
        answer = page("Create an account", content, status=status_of_form(failure))
        self.browser.remember(answer)
        return answer

    def made(self) -> HTMLResponse:
        """What is said at the end, the same whether or not the address is somebody's already."""
        told = success("The account is made. We send a mail to its address, to have it confirmed.")
        return page("Create an account", told + self._way_back("Sign in"))

    def _way_back(self, text: str) -> Html:
        if request := self._request():
            return link(text, f"{PATH}?{urlencode(request)}")
        return paragraph("To sign in, go back to the program that sent you here.")

    def _request(self) -> dict[str, str]:
        found = {name: self.asked.once(name) for name in PARAMETERS}
        return {name: value for name, value in found.items() if value is not None}


@router.get("/register", response_class=HTMLResponse)
async def ask_for_account(request: Request) -> Response:
    """The page that the login page leads to."""
    try:
        return RegisterPage(query_of(request), Browser.of(request)).asking()
    except ExpectedFailure as failure:
        return refusal(failure)


@router.post(
    "/register",
    response_class=HTMLResponse,
    openapi_extra=documented(("email", "username", "password", "csrf"), PARAMETERS),
)
async def register(request: Request, actions: ServiceActions, origin: FromWhere) -> Response:
    """Open an account, as `POST /auth/register` does."""
    typed, browser = await typed_in(request), Browser.of(request)
    asking = RegisterPage(typed, browser)
    email, password = typed.once("email") or "", typed.once("password") or ""
    try:
        browser.check(typed, _NAME)
        if len(email) > LONGEST_EMAIL:
            raise InvalidEmail
        if len(password) > LONGEST_PASSWORD:
            raise PasswordRefused("too_long", f"Use at most {LONGEST_PASSWORD} characters.")
        await actions.register(
            origin=origin,
            email=email,
            username=typed.once("username") or "",
            password=Password(password),
        )
    except ExpectedFailure as failure:
        return asking.asking(failure)
    return asking.made()
