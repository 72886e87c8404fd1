"""How we know that a form comes from our own page in the same browser (double submit)."""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Self

from fastapi import Request, Response

from services.auth.domain.authorization import Asked
from services.auth.domain.errors import FormExpired
from shared.values import dataclass

# With this prefix browsers take the cookie only from this very host, over https (or loopback):
# nobody beside or above us can plant one.
_COOKIE = "__Host-companion-csrf"
_FIELD = "csrf"
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Browser:
    """One browser, known by a random cookie that says nothing about who uses it."""

    secret: str

    @classmethod
    def of(cls, request: Request) -> Self:
        """The browser that asks; one without our cookie gets a new one."""
        known = request.cookies.get(_COOKIE, "")
        return cls(known if _SECRET.fullmatch(known) else secrets.token_urlsafe(32))

    def token(self, page: str) -> str:
        """What a form on that page must send along."""
        return hmac.digest(self.secret.encode(), page.encode(), "sha256").hex()

    def check(self, form: Asked, page: str) -> None:
        """Raises FormExpired for a form that this browser did not get from that page."""
        shown = form.once(_FIELD) or ""
        if not hmac.compare_digest(shown.encode(), self.token(page).encode()):
            raise FormExpired

    def hidden(self, page: str) -> dict[str, str]:
        """The form's field that `check` looks at."""
        return {_FIELD: self.token(page)}

    def remember(self, response: Response) -> None:
        """Let the browser send its cookie along with the form."""
        response.set_cookie(
            _COOKIE, self.secret, path="/", secure=True, httponly=True, samesite="lax"
        )
