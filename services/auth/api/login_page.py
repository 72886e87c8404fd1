"""What the login page shows: a form for login and password, or one for the second factor."""

from __future__ import annotations

import math
from collections.abc import Set
from datetime import timedelta
from urllib.parse import urlencode

from prometheus_client import Counter
from starlette.responses import HTMLResponse

from services.auth.api.browser import Browser
from services.auth.api.page import NOTHING, Field, Html, complaint, form, link, page
from services.auth.domain.authorization import PARAMETERS, Asked, AuthorizationRequest
from services.auth.domain.errors import AccessDenied, OAuthRefused
from services.auth.domain.password import LONGEST_PASSWORD
from services.auth.domain.user import LONGEST_EMAIL
from shared.errors import ExpectedFailure, Unavailable
from shared.http.errors import problem_of
from shared.scopes import ACCOUNT, BILLING, BILLING_READ, CHAT, KEYS, USAGE_WRITE, VOICE
from shared.values import dataclass

NAME = "authorize"
CARRIED = "first_step"
PATH = "/oauth/authorize"
LONGEST_OTP = 64

SCOPES_IN_WORDS = {
    ACCOUNT: "see and change your account",
    KEYS: "store, use and remove your keys for AI vendors",
    CHAT: "read your chats and ask models with your keys",
    VOICE: "have texts spoken with your keys",
    BILLING_READ: "see your usage, plan and invoices",
    BILLING: "change your plan",
    USAGE_WRITE: "report usage",
}

SHOWN_AGAIN = Counter(
    "companion_auth_forms_shown_again",
    "Forms of our pages that were shown again, by what was wrong.",
    ["code"],
)


@dataclass(frozen=True, slots=True)
class LoginPage:
    """The page for one request of a client, in one browser."""

    request: AuthorizationRequest
    asked: Asked
    browser: Browser

    def first_step(
        self, failure: ExpectedFailure | None = None, *, login: str = ""
    ) -> HTMLResponse:
        """Ask for login and password."""
        fields = [
            Field(
                "login",
                "E-mail address or username",
                "username",
                value=login,
                is_first=not login,
                longest=LONGEST_EMAIL,
            ),
            Field(
                "password",
                "Password",
                "current-password",
                kind="password",
                is_first=bool(login),
                longest=LONGEST_PASSWORD,
            ),
        ]
        entry = form(PATH, "Sign in", self._hidden(), fields)
        register = f"/oauth/register?{urlencode(self._request())}"
        more = link("Create an account", register)
        more += link("Forgot your password?", "/oauth/forgot-password") + self._cancel()
        return self._shown("Sign in", failure, entry + more)

    def second_step(
        self, login: str, carried: str, failure: ExpectedFailure | None = None
    ) -> HTMLResponse:
        """Ask for the second factor."""
        code = Field(
            "otp",
            "Code",
            "one-time-code",
            is_first=True,
            longest=LONGEST_OTP,
            hint="Six digits of your authenticator, or one of your recovery codes.",
        )
        entry = form(PATH, "Continue", self._hidden() | {CARRIED: carried}, [code])
        who = Html.of('<p class="quiet">Signing in as $login</p>', login=login)
        return self._shown("One more step", failure, who + entry + self._cancel())

    def _shown(self, title: str, failure: ExpectedFailure | None, content: Html) -> HTMLResponse:
        client = Html.of(
            '<p>to go on to <strong>$name</strong></p><p class="quiet">It may $what.</p>',
            name=self.request.address.client.name,
            what=_in_words(self.request.scopes),
        )
        answer = page(
            title,
            client + wrong(failure) + content,
            status=status_of_form(failure),
            sends_to=self.request.address.form_target,
        )
        self.browser.remember(answer)
        return answer

    def _hidden(self) -> dict[str, str]:
        return self._request() | self.browser.hidden(NAME)

    def _request(self) -> dict[str, str]:
        values = self.asked.values
        return {name: values[name] for name in PARAMETERS if name in values}

    def _cancel(self) -> Html:
        return link("Cancel", self.request.address.with_error(AccessDenied()))


def _in_words(scopes: Set[str] | None) -> str:
    """What a client may do with such scopes; without any it gets all that the person may do."""
    if scopes is None:
        return "do all that you may do here"
    return "; ".join(words for scope, words in SCOPES_IN_WORDS.items() if scope in scopes)


def wrong(failure: ExpectedFailure | None) -> Html:
    """What to say above a form that is shown again; counted."""
    if failure is None:
        return NOTHING
    SHOWN_AGAIN.labels(failure.code).inc()
    return complaint(_what_to_say(failure))


def status_of_form(failure: ExpectedFailure | None) -> int:
    """200 whatever was wrong with what was typed: at 400 and above Chromium closes an extension's
    window (`chrome.identity.launchWebAuthFlow`), and nobody reads it. Trouble of ours stays a 503.
    """
    return 503 if isinstance(failure, Unavailable) else 200


def refusal(failure: ExpectedFailure) -> HTMLResponse:
    """The page for somebody who can't be sent back to where they came from, and has no form to
    try again with."""
    status, headers = _status_of(failure)
    title = "This can’t go on" if isinstance(failure, OAuthRefused) else "Please try again"
    told = complaint(_what_to_say(failure))
    help_ = Html.of('<p class="quiet">$text</p>', text="Go back to the program that sent you here.")
    return page(title, told + help_, status=status, headers=headers)


def _status_of(failure: ExpectedFailure) -> tuple[int, dict[str, str]]:
    """As everywhere; what OAuth refuses is 400 (RFC 6749)."""
    status, _, headers = problem_of(failure)
    return (400 if isinstance(failure, OAuthRefused) else status), headers


def _what_to_say(failure: ExpectedFailure) -> str:
    """The failure in words for a person, and when to come back."""
    wait: timedelta | None = getattr(failure, "retry_after", None)
    return failure.message if wait is None else f"{failure.message} {_when(wait)}"


def _when(wait: timedelta) -> str:
    seconds = max(1, math.ceil(wait.total_seconds()))
    if seconds < 60:
        return f"Come back in {seconds} second{'s' if seconds > 1 else ''}."
    minutes = math.ceil(seconds / 60)
    return f"Come back in {minutes} minute{'s' if minutes > 1 else ''}."
