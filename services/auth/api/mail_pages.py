"""The pages behind the links in our mails, and the one that asks for such a mail.

Looking at one changes nothing: programs that check mails for danger open every link in them.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from services.auth.api.browser import Browser
from services.auth.api.dependencies import ServiceActions
from services.auth.api.forms import documented, form_of, query_of
from services.auth.api.login_page import refusal, status_of_form, wrong
from services.auth.api.origin import FromWhere
from services.auth.api.page import Field, form, page, paragraph, success
from services.auth.api.passwords import LONGEST_PROOF
from services.auth.domain.authorization import Asked
from services.auth.domain.errors import PasswordRefused, ProofRefused
from services.auth.domain.mailed_proof import ProofToken
from services.auth.domain.password import LONGEST_PASSWORD, SHORTEST_PASSWORD, Password
from services.auth.domain.user import LONGEST_EMAIL
from shared.errors import ExpectedFailure
from shared.values import dataclass

router = APIRouter(prefix="/oauth", tags=["pages"])

_TOKEN = "token"  # noqa: S105 - the name of a field


@dataclass(frozen=True, slots=True)
class SmallPage:
    """One question, and what is said when it was answered."""

    name: str
    title: str
    text: str
    button: str
    done: str
    fields: tuple[Field, ...] = ()
    needs_token: bool = True

    @property
    def path(self) -> str:
        return f"/oauth/{self.name}"

    def asking(
        self, browser: Browser, typed: Asked, failure: ExpectedFailure | None = None
    ) -> HTMLResponse:
        """The question, once more if something was wrong with the answer."""
        hidden, fields = browser.hidden(self.name), list(self.fields)
        if self.needs_token and (token := token_of(typed)):
            hidden[_TOKEN] = token
        elif self.needs_token:
            fields.insert(0, Field(_TOKEN, "Code in the mail", "off", longest=LONGEST_PROOF))
        entry = form(self.path, self.button, hidden, fields)
        content = paragraph(self.text) + wrong(failure) + entry
        answer = page(self.title, content, status=status_of_form(failure))
        browser.remember(answer)
        return answer

    def answered(self) -> HTMLResponse:
        """What is said at the end."""
        return page(self.title, success(self.done))


VERIFY_EMAIL = SmallPage(
    name="verify-email",
    title="Confirm your e-mail address",
    text="Press the button to confirm that this address is yours.",
    button="Confirm",
    done="The address is confirmed. You can close this page.",
)
FORGOT_PASSWORD = SmallPage(
    name="forgot-password",
    title="Forgot your password?",
    text="We send a mail with a link to choose a new one. It is good for 20 minutes.",
    button="Send the mail",
    done="If there is an account with this address, a mail is on its way. You can close this page.",
    fields=(
        Field("email", "E-mail address", "username", "email", is_first=True, longest=LONGEST_EMAIL),
    ),
    needs_token=False,
)
RESET_PASSWORD = SmallPage(
    name="reset-password",
    title="Choose a new password",
    text="Afterwards all your devices are signed out.",
    button="Save the password",
    done="The new password is saved. Go back to the program and sign in with it.",
    fields=(
        Field(
            "new_password",
            "New password",
            "new-password",
            "password",
            is_first=True,
            longest=LONGEST_PASSWORD,
            hint=f"At least {SHORTEST_PASSWORD} characters; several words are a good choice.",
        ),
    ),
)


@router.get("/verify-email", response_class=HTMLResponse)
async def ask_to_verify(request: Request) -> Response:
    """The page that a mail leads to. It confirms nothing by being opened."""
    return _asked(request, VERIFY_EMAIL)


@router.post(
    "/verify-email",
    response_class=HTMLResponse,
    openapi_extra=documented((_TOKEN, "csrf")),
)
async def verify(request: Request, actions: ServiceActions, origin: FromWhere) -> Response:
    """Confirm an address."""
    typed, browser = await typed_in(request), Browser.of(request)
    try:
        browser.check(typed, VERIFY_EMAIL.name)
        await actions.verify_email(ProofToken(token_of(typed)), origin)
    except ExpectedFailure as failure:
        return _again(VERIFY_EMAIL, browser, typed, failure)
    return VERIFY_EMAIL.answered()


@router.get("/forgot-password", response_class=HTMLResponse)
async def ask_for_address(request: Request) -> Response:
    """The page that the login page leads to."""
    return _asked(request, FORGOT_PASSWORD)


@router.post(
    "/forgot-password",
    response_class=HTMLResponse,
    openapi_extra=documented(("email", "csrf")),
)
async def send_reset(request: Request, actions: ServiceActions, origin: FromWhere) -> Response:
    """Ask for a mail with which to choose a new password."""
    typed, browser = await typed_in(request), Browser.of(request)
    try:
        browser.check(typed, FORGOT_PASSWORD.name)
        await actions.request_password_reset(
            (typed.once("email") or "")[: LONGEST_EMAIL + 1], origin
        )
    except ExpectedFailure as failure:
        return _again(FORGOT_PASSWORD, browser, typed, failure)
    return FORGOT_PASSWORD.answered()


@router.get("/reset-password", response_class=HTMLResponse)
async def ask_for_password(request: Request) -> Response:
    """The page that a mail leads to."""
    return _asked(request, RESET_PASSWORD)


@router.post(
    "/reset-password",
    response_class=HTMLResponse,
    openapi_extra=documented((_TOKEN, "new_password", "csrf")),
)
async def reset(request: Request, actions: ServiceActions, origin: FromWhere) -> Response:
    """Choose a new password; every device is signed out."""
    typed, browser = await typed_in(request), Browser.of(request)
    new = typed.once("new_password") or ""
    try:
        browser.check(typed, RESET_PASSWORD.name)
        if len(new) > LONGEST_PASSWORD:
            raise PasswordRefused("too_long", f"Use at most {LONGEST_PASSWORD} characters.")
        await actions.reset_password(ProofToken(token_of(typed)), Password(new), origin)
    except ExpectedFailure as failure:
        return _again(RESET_PASSWORD, browser, typed, failure)
    return RESET_PASSWORD.answered()


def _asked(request: Request, small: SmallPage) -> Response:
    try:
        return small.asking(Browser.of(request), query_of(request))
    except ExpectedFailure as failure:
        return refusal(failure)


async def typed_in(request: Request) -> Asked:
    """What was typed on one of these pages."""
    try:
        return await form_of(request)
    except ExpectedFailure:
        # Nothing that a browser sends from our form; it fails the check of where it comes from.
        return Asked.of(())


def _again(small: SmallPage, browser: Browser, typed: Asked, failure: ExpectedFailure) -> Response:
    # A token that is no good is not kept: a code typed from the mail may be right.
    kept = Asked.of(()) if isinstance(failure, ProofRefused) else typed
    return small.asking(browser, kept, failure)


def token_of(typed: Asked) -> str:
    """The token in a mail, if it is one that we can have sent."""
    token = typed.once(_TOKEN) or ""
    return token if len(token) <= LONGEST_PROOF else ""
