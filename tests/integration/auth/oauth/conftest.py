"""A browser without a screen, and a client for which it signs people in."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pyotp
import pytest

from services.auth.actions.register_client import RegisterClient
from services.auth.domain.oauth_client import OAuthClient
from services.auth.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from tests.support.auth import Account, RunningAuth
from tests.support.auth_oauth import CALLBACK, VERIFIER, request_of

COOKIE = "__Host-companion-csrf"


FORM = "application/x-www-form-urlencoded"


LOOPBACK = "http://127.0.0.1/cb"


HIDDEN_FIELDS = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')


EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;"


@dataclass
class Visitor:
    """A browser without a screen: it keeps our cookie and sends the form that it was shown."""

    auth: RunningAuth
    client: OAuthClient
    cookie: str = ""
    hidden: dict[str, str] = field(default_factory=dict)

    async def open(self, **parts: str | None) -> httpx.Response:
        query = urlencode(request_of(self.client.client_id, **parts))
        return self._seen(await self._send("GET", f"/oauth/authorize?{query}"))

    async def submit(self, **typed: str) -> httpx.Response:
        answer = await self._send("POST", "/oauth/authorize", data=self.hidden | typed)
        return self._seen(answer)

    async def register(self, **typed: str) -> httpx.Response:
        return await self._send("POST", "/oauth/register", data=self.hidden | typed)

    async def code(self, account: Account, **parts: str | None) -> str:
        await self.open(**parts)
        answer = await self.submit(login=account.username, password=account.password)
        assert answer.status_code == 303, answer.text
        return str(returned(answer)["code"])

    async def token(self, code: str, /, **parts: str | None) -> httpx.Response:
        form: dict[str, Any] = {
            "grant_type": "authorization_code",
            "client_id": self.client.client_id,
            "redirect_uri": CALLBACK,
            "code": code,
            "code_verifier": VERIFIER,
            **parts,
        }
        sent = {name: value for name, value in form.items() if value is not None}
        return await self.auth.client.post("/oauth/token", data=sent)

    async def refresh(self, token: str, **parts: str) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        data = {**form, "client_id": self.client.client_id, **parts}
        return await self.auth.client.post("/oauth/token", data=data)

    async def revoke(self, token: str, **parts: str) -> httpx.Response:
        data = {"token": token, "client_id": self.client.client_id, **parts}
        return await self.auth.client.post("/oauth/revoke", data=data)

    async def _send(self, method: str, url: str, **parts: Any) -> httpx.Response:
        headers = {"cookie": f"{COOKIE}={self.cookie}"} if self.cookie else {}
        return await self.auth.client.request(method, url, headers=headers, **parts)

    def _seen(self, answer: httpx.Response) -> httpx.Response:
        # The client's own jar keeps no Secure cookie of plain http, and shares it among tests.
        self.auth.client.cookies.clear()
        set_cookie = answer.headers.get("set-cookie", "")
        if set_cookie.startswith(f"{COOKIE}="):
            self.cookie = set_cookie.partition("=")[2].partition(";")[0]
        if fields := HIDDEN_FIELDS.findall(answer.text):
            self.hidden = {html.unescape(n): html.unescape(v) for n, v in fields}
        return answer


def shown_again(answer: httpx.Response) -> str:
    """What a page says that shows its form again, as `launchWebAuthFlow` lets a person see it."""
    assert (answer.status_code, "location" in answer.headers) == (200, False), answer.text
    found = re.search('<p class="bad" role="alert">([^<]*)</p>', answer.text)
    assert found is not None, answer.text
    return found[1]


def returned(answer: httpx.Response) -> dict[str, str]:
    """The parameters with which the browser is sent back to the client."""
    parts = urlsplit(answer.headers["location"])
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == CALLBACK
    return {name: value for name, (value,) in parse_qs(parts.query).items()}


@pytest.fixture
async def client(new_work: Callable[[], SqlWork]) -> OAuthClient:
    register = RegisterClient(new_work, SystemClock())
    return await register("Tips & <b>Tricks</b>", [CALLBACK, LOOPBACK])


@pytest.fixture
def visitor(auth: RunningAuth, client: OAuthClient) -> Visitor:
    return Visitor(auth, client)


async def with_authenticator(auth: RunningAuth, account: Account) -> list[str]:
    """Give the account a second factor; answers its recovery codes."""
    begun = await auth.client.post("/auth/mfa/totp", headers=account.headers)
    assert begun.is_success, begun.text
    otp = pyotp.TOTP(begun.json()["secret"]).now()
    confirmed = await auth.client.post(
        "/auth/mfa/totp/confirm", json={"otp": otp}, headers=account.headers
    )
    assert confirmed.status_code == 200, confirmed.text
    return list(confirmed.json()["recovery_codes"])
