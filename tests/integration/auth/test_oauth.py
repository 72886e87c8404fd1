"""The code flow through the real doors: the login page, the tokens, and what refuses both."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import re
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID, uuid4

import httpx
import pyotp
import pytest
from oauthlib.oauth2 import InvalidGrantError, WebApplicationClient

from services.auth.actions.assign_role import AssignRole
from services.auth.actions.authorize_client import AuthorizeClient
from services.auth.actions.disable_client import DisableClient
from services.auth.actions.register_client import RegisterClient
from services.auth.actions.reset_second_factor import ResetSecondFactor
from services.auth.api.login_page import SCOPES_IN_WORDS
from services.auth.domain.authorization import hash_of_code
from services.auth.domain.oauth_client import OAuthClient
from services.auth.domain.sign_in import EndReason
from services.auth.domain.user import Role
from services.auth.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.errors import DependencyUnavailable
from shared.ids import UserId
from shared.scopes import ACCOUNT, CHAT, SIGN_IN_SCOPES, USAGE_WRITE
from tests.support.auth import PASSWORD, Account, RunningAuth
from tests.support.auth_oauth import CALLBACK, VERIFIER, challenge_of, request_of

COOKIE = "__Host-companion-csrf"
FORM = "application/x-www-form-urlencoded"
LOOPBACK = "http://127.0.0.1/cb"
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')
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
        if fields := _HIDDEN.findall(answer.text):
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


async def test_an_extension_signs_a_person_in(auth: RunningAuth, visitor: Visitor) -> None:
    account = await auth.account()
    assert (await visitor.open()).status_code == 200
    answer = await visitor.submit(login=account.email, password=account.password)
    assert answer.status_code == 303
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    back = returned(answer)
    assert (back["state"], back["iss"]) == ("a state", auth.settings.token_issuer)
    tokens = await visitor.token(back["code"])
    assert tokens.status_code == 200
    assert (tokens.headers["cache-control"], tokens.headers["pragma"]) == ("no-store", "no-cache")
    body = tokens.json()
    assert set(body) == {*("access_token", "token_type", "expires_in", "refresh_token", "scope")}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 900)
    assert set(body["scope"].split()) == SIGN_IN_SCOPES
    me = await auth.me(body["access_token"])
    assert me.json()["id"] == str(account.id)


async def test_an_oauth_library_can_do_it(
    auth: RunningAuth, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It does not know that nobody listens on loopback.
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    account = await auth.account()
    metadata = (await auth.client.get("/.well-known/oauth-authorization-server")).json()
    library = WebApplicationClient(visitor.client.client_id)

    async def post(endpoint: str, body: str) -> str:
        headers = {"content-type": FORM, "accept": "application/json"}
        answer = await auth.client.post(metadata[endpoint], content=body, headers=headers)
        assert answer.headers["content-type"] == "application/json"
        return answer.text

    visitor._seen(
        await auth.client.get(
            library.prepare_request_uri(
                metadata["authorization_endpoint"],
                CALLBACK,
                scope=["chat", "account"],
                state="one of its own",
                code_challenge=challenge_of(),
                code_challenge_method="S256",
            )
        )
    )
    back = await visitor.submit(login=account.email, password=account.password)
    library.parse_request_uri_response(back.headers["location"], state="one of its own")
    body = library.prepare_request_body(redirect_uri=CALLBACK, code_verifier=VERIFIER)
    tokens = library.parse_request_body_response(await post("token_endpoint", body))
    assert (await auth.me(tokens["access_token"])).status_code == 200
    body = library.prepare_refresh_body(client_id=visitor.client.client_id)
    newer = library.parse_request_body_response(await post("token_endpoint", body))
    assert newer["refresh_token"] != tokens["refresh_token"]
    used = library.prepare_request_body(
        code="A" * 43, redirect_uri=CALLBACK, code_verifier=VERIFIER
    )
    refusal = await post("token_endpoint", used)
    with pytest.raises(InvalidGrantError):
        library.parse_request_body_response(refusal)
    _, _, body = library.prepare_token_revocation_request(
        "https://auth.example/", newer["refresh_token"], client_id=visitor.client.client_id
    )
    await post("revocation_endpoint", body)
    assert (await visitor.refresh(newer["refresh_token"])).json()["error"] == "invalid_grant"


async def test_the_metadata_says_what_there_is(auth: RunningAuth) -> None:
    answer = await auth.client.get("/.well-known/oauth-authorization-server")
    document = answer.json()
    base = auth.settings.public_url
    assert document == {
        "issuer": auth.settings.token_issuer,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "revocation_endpoint": f"{base}/oauth/revoke",
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": sorted(SIGN_IN_SCOPES),
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": ["en"],
    }
    # And where an issuer with that path has it.
    inserted = await auth.client.get("/.well-known/oauth-authorization-server/auth")
    assert inserted.json() == document


async def test_the_page_can_not_be_framed_scripted_or_kept(visitor: Visitor) -> None:
    for answer in (
        await visitor.open(),
        await visitor.submit(login="nobody", password="wrong"),
        await visitor.open(client_id="0" * 24),
        await visitor.auth.client.get("/oauth/forgot-password"),
        await visitor.auth.client.get("/oauth/verify-email?token=x"),
        await visitor.auth.client.get("/oauth/reset-password"),
        await visitor.auth.client.get("/oauth/accept-invitation?token=x"),
        await visitor.auth.client.get("/oauth/register"),
    ):
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = dict(
            part.strip().split(" ", 1)
            for part in answer.headers["content-security-policy"].split(";")
        )
        style = re.search("<style>(.*)</style>", answer.text, re.DOTALL)
        assert style is not None
        digest = b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        assert policy["style-src"] == f"'sha256-{digest}'"
        assert (policy["default-src"], policy["base-uri"]) == ("'none'", "'none'")
        assert policy["frame-ancestors"] == "'none'"
        assert "script-src" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "<script" not in answer.text
        assert ' style="' not in answer.text


async def test_a_form_may_lead_back_to_its_own_client_alone(visitor: Visitor) -> None:
    for redirect_uri, target in (
        (None, None),
        (CALLBACK, CALLBACK.removesuffix("/cb")),
        ("http://127.0.0.1:4567/cb", "http://127.0.0.1:4567"),
    ):
        answer = await visitor.open(redirect_uri=redirect_uri)
        policy = answer.headers["content-security-policy"]
        expected = f"form-action 'self' {target};" if target else "form-action 'self';"
        assert expected in policy


async def test_the_page_is_readable_by_all(visitor: Visitor) -> None:
    first = (await visitor.open()).text
    assert '<html lang="en">' in first
    for name, purpose in (("login", "username"), ("password", "current-password")):
        assert f'<label for="{name}">' in first
        assert re.search(rf'id="{name}"[^>]*autocomplete="{purpose}"', first)
    assert re.search('id="login"[^>]*autofocus', first)
    assert "Tips &amp; &lt;b&gt;Tricks&lt;/b&gt;" in first
    again = (await visitor.submit(login="nobody", password="wrong")).text
    assert 'role="alert"' in again
    assert re.search('id="password"[^>]*autofocus', again)


async def test_the_page_says_what_the_client_may_do(visitor: Visitor) -> None:
    assert set(SCOPES_IN_WORDS) == SIGN_IN_SCOPES | {USAGE_WRITE}
    for scope, words in (
        ("chat", f"It may {SCOPES_IN_WORDS[CHAT]}."),
        ("chat account", f"It may {SCOPES_IN_WORDS[ACCOUNT]}; {SCOPES_IN_WORDS[CHAT]}."),
        (None, "It may do all that you may do here."),
    ):
        assert words in (await visitor.open(scope=scope)).text


def register_link(text: str) -> str:
    found = re.search(r'<a href="(/oauth/register[^"]*)">', text)
    assert found is not None
    return html.unescape(found[1])


async def test_who_has_no_account_makes_one_and_comes_back(
    auth: RunningAuth, visitor: Visitor
) -> None:
    login_page = await visitor.open(scope="account chat", state=EVIL)
    visitor._seen(await visitor._send("GET", register_link(login_page.text)))
    name = f"new{uuid4().hex[:12]}"
    typed = {"email": f"{name}@example.com", "username": name, "password": "short"}
    again = visitor._seen(await visitor.register(**typed))
    assert "12" in shown_again(again)
    assert f'value="{name}@example.com"' in again.text
    assert "short" not in again.text
    made = await visitor.register(**typed | {"password": PASSWORD})
    assert (made.status_code, 'role="status"' in made.text) == (200, True), made.text
    back = re.search('<a href="(/oauth/authorize[^"]*)">', made.text)
    assert back is not None
    visitor._seen(await visitor._send("GET", html.unescape(back[1])))
    answer = returned(await visitor.submit(login=name, password=PASSWORD))
    assert answer["state"] == EVIL
    assert (await visitor.token(answer["code"])).json()["scope"] == "account chat"


async def test_the_page_for_an_account_tells_nothing_and_takes_no_form_from_elsewhere(
    auth: RunningAuth, visitor: Visitor
) -> None:
    account = await auth.account()
    opened = await visitor._send("GET", "/oauth/register")
    visitor._seen(opened)
    pages = []
    for email in (account.email, f"{uuid4().hex}@example.com"):
        name = f"new{uuid4().hex[:12]}"
        made = await visitor.register(email=email, username=name, password=PASSWORD)
        assert made.status_code == 200
        pages.append(made.text)
    assert pages[0] == pages[1]
    fresh = {"email": f"{uuid4().hex}@example.com", "username": "x", "password": PASSWORD}
    for wrong in (
        fresh | {"username": account.username},
        fresh | {"email": "x"},
        fresh | {"email": "x" * 300 + "@example.com"},
        fresh | {"password": "x" * 257},
        fresh | {"csrf": "0" * 64},
        {},
    ):
        shown_again(await visitor.register(**wrong))


async def test_a_wrong_login_gets_one_answer(auth: RunningAuth, visitor: Visitor) -> None:
    account = await auth.account()
    await visitor.open()
    pages = []
    for login, password in (
        (account.username, "a wrong password"),
        ("nobody", PASSWORD),
        ("", ""),
        ("x" * 255, PASSWORD),
        (account.username, "x" * 257),
    ):
        answer = await visitor.submit(login=login, password=password)
        assert shown_again(answer).startswith("The login or the password is wrong")
        assert password not in answer.text or not password
        pages.append(re.sub(r'value="[^"]*"|autofocus', "", answer.text).replace(" >", ">"))
    assert set(pages) == {pages[0]}


async def test_after_too_many_guesses_the_page_says_when_to_come_back(visitor: Visitor) -> None:
    await visitor.open()
    for _ in range(8):
        answer = await visitor.submit(login="a-name-of-nobody", password="wrong")
    assert re.search(r"Come back in \d+ (minute|second)s?\.$", shown_again(answer))


async def test_trouble_of_ours_is_none_of_the_persons(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_parts: object) -> None:
        raise DependencyUnavailable("database")

    await visitor.open()
    monkeypatch.setattr(AuthorizeClient, "__call__", away)
    answer = await visitor.submit(login="somebody", password=PASSWORD)
    assert (answer.status_code, 'role="alert"' in answer.text) == (503, True)


@pytest.mark.parametrize("trick", ["missing", "wrong", "other browser", "no cookie", "other page"])
async def test_a_form_from_elsewhere_is_refused(
    auth: RunningAuth, visitor: Visitor, client: OAuthClient, trick: str
) -> None:
    account = await auth.account()
    await visitor.open()
    if trick == "missing":
        del visitor.hidden["csrf"]
    elif trick == "wrong":
        visitor.hidden["csrf"] = "0" * 64
    elif trick == "other browser":
        other = Visitor(auth, client)
        await other.open()
        visitor.hidden["csrf"] = other.hidden["csrf"]
    elif trick == "no cookie":
        visitor.cookie = ""
    else:
        shown = await visitor._send("GET", "/oauth/forgot-password")
        visitor.hidden["csrf"] = dict(_HIDDEN.findall(shown.text))["csrf"]
    answer = await visitor.submit(login=account.username, password=account.password)
    shown_again(answer)
    # The page that says so works: nobody is locked out by a cookie that got lost.
    answer = await visitor.submit(login=account.username, password=account.password)
    assert answer.status_code == 303


async def test_the_cookie_is_this_hosts_own(visitor: Visitor) -> None:
    answer = await visitor.open()
    words = {word.strip().lower() for word in answer.headers["set-cookie"].split(";")[1:]}
    assert words == {"path=/", "secure", "httponly", "samesite=lax"}
    first = visitor.cookie
    await visitor.open()
    assert visitor.cookie == first, "two tabs must not void each other's form"
    visitor.cookie = "planted"
    await visitor.open()
    assert visitor.cookie not in (first, "planted")


@pytest.mark.parametrize("name", ["response_type", "client_id", "redirect_uri", "scope", "state"])
async def test_nothing_that_is_shown_again_becomes_code(visitor: Visitor, name: str) -> None:
    answer = await visitor.open(**{name: EVIL})
    for bad in ("<script>alert", "<img src=x", EVIL):
        assert bad not in answer.text
        assert bad not in answer.headers.get("location", "")
    assert answer.status_code in (200, 303, 400)


async def test_nor_what_was_typed(auth: RunningAuth, visitor: Visitor) -> None:
    await visitor.open(state=EVIL)
    assert visitor.hidden["state"] == EVIL
    answer = await visitor.submit(login=EVIL, password=EVIL)
    assert "<script>" not in answer.text
    assert html.escape(EVIL) in answer.text
    for page in ("verify-email", "reset-password"):
        shown = await auth.client.get(f"/oauth/{page}", params={"token": EVIL})
        assert "<script>" not in shown.text
        assert html.escape(EVIL) in shown.text


@pytest.mark.parametrize(
    "parts",
    [
        {"client_id": "0" * 24},
        {"client_id": None},
        {"client_id": "\x00"},
        {"client_id": "a" * 5000},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/cb"},
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": CALLBACK + "@evil.example"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": "\x00"},
    ],
)
async def test_a_stranger_gets_a_page_and_no_redirect(
    visitor: Visitor, parts: dict[str, str | None]
) -> None:
    for answer in (
        await visitor.open(**parts),
        await visitor.auth.client.post(
            "/oauth/authorize", data=request_of(visitor.client.client_id, **parts)
        ),
        await visitor.open(**parts, response_type="token", scope="bad"),
    ):
        assert answer.status_code == 400
        assert "location" not in answer.headers
        assert "evil.example" not in answer.text


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"scope": "everything"}, "invalid_scope"),
    ],
)
async def test_a_client_hears_what_was_wrong(
    auth: RunningAuth, visitor: Visitor, parts: dict[str, str | None], error: str
) -> None:
    data = request_of(visitor.client.client_id, **parts)
    for answer in (
        await visitor.open(**parts),
        await auth.client.post("/oauth/authorize", data=data | {"login": "a", "password": "b"}),
    ):
        assert answer.status_code == 303
        back = returned(answer)
        assert back["error"] == error
        assert back["error_description"]
        assert (back["state"], back["iss"]) == ("a state", auth.settings.token_issuer)


async def test_a_parameter_that_comes_twice_is_an_error(visitor: Visitor) -> None:
    good = request_of(visitor.client.client_id)
    for name in good:
        query = urlencode([*good.items(), (name, good[name])])
        answer = await visitor.auth.client.get(f"/oauth/authorize?{query}")
        if name in ("client_id", "redirect_uri"):
            assert (answer.status_code, "location" in answer.headers) == (400, False)
        else:
            assert returned(answer)["error"] == "invalid_request"
            assert ("state" in returned(answer)) == (name != "state")
    form = urlencode([("grant_type", "refresh_token"), *good.items(), ("grant_type", "x")])
    kind = {"content-type": FORM}
    answer = await visitor.auth.client.post("/oauth/token", content=form, headers=kind)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_what_is_too_large_or_no_form_is_refused(visitor: Visitor) -> None:
    send = visitor.auth.client.post
    kind = {"content-type": FORM}
    for path in ("/oauth/authorize", "/oauth/token", "/oauth/revoke", "/oauth/reset-password"):
        huge = await send(path, content=b"a=" + b"b" * (1 << 17), headers=kind)
        assert huge.status_code == 413
        for content, headers in (
            (b"{}", {"content-type": "application/json"}),
            (b"", {}),
            (b"\xff\xfe", kind),
            (b"token=%ff&grant_type=%ff&client_id=%ff", kind),
            (b"&".join(b"n%d=1" % n for n in range(60)), kind),
        ):
            answer = await send(path, content=content, headers=headers)
            if path == "/oauth/reset-password":
                shown_again(answer)
            else:
                assert answer.status_code == 400, (path, content)


async def test_tokens_need_a_form_in_the_body(visitor: Visitor) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "y"}
    for answer in (
        await visitor.auth.client.post("/oauth/token", json=form),
        await visitor.auth.client.post("/oauth/token", params=form),
    ):
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert (await visitor.auth.client.get("/oauth/token", params=form)).status_code == 405


@pytest.mark.parametrize(
    ("parts", "status", "error"),
    [
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
        ({"grant_type": None}, 400, "invalid_request"),
        ({"client_id": None}, 400, "invalid_request"),
        ({"code": None}, 400, "invalid_request"),
        ({"code_verifier": None}, 400, "invalid_request"),
        ({"redirect_uri": None}, 400, "invalid_request"),
        ({"client_id": "0" * 24}, 401, "invalid_client"),
        ({"code": "A" * 43}, 400, "invalid_grant"),
        ({"code": "\x00"}, 400, "invalid_grant"),
        ({"code_verifier": "w" * 43}, 400, "invalid_grant"),
        ({"code_verifier": "short"}, 400, "invalid_grant"),
        ({"code_verifier": challenge_of()}, 400, "invalid_grant"),
        ({"redirect_uri": LOOPBACK}, 400, "invalid_grant"),
    ],
)
async def test_a_refusal_is_a_problem_and_an_oauth_error(
    auth: RunningAuth, visitor: Visitor, parts: dict[str, str | None], status: int, error: str
) -> None:
    answer = await visitor.token(await visitor.code(await auth.account()), **parts)
    body = answer.json()
    assert (answer.status_code, body["status"], body["error"]) == (status, status, error)
    assert body["error_description"] == body["detail"]
    assert re.fullmatch("[a-z_]+", body["code"])
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert not {"access_token", "refresh_token"} & set(body)


async def test_a_client_that_wants_json_gets_it(visitor: Visitor) -> None:
    for accept, kind in (
        ("application/json", "application/json"),
        ("application/json, application/problem+json", "application/problem+json"),
        ("*/*", "application/problem+json"),
    ):
        answer = await visitor.auth.client.post("/oauth/token", headers={"accept": accept})
        assert answer.headers["content-type"] == kind


async def test_a_code_that_comes_twice_ends_what_it_began(
    auth: RunningAuth, visitor: Visitor
) -> None:
    code = await visitor.code(await auth.account())
    tokens = (await visitor.token(code)).json()
    assert (await visitor.token(code)).json()["error"] == "invalid_grant"
    again = await visitor.refresh(tokens["refresh_token"])
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    ended = await auth.client.post("/auth/verify-email/resend", headers=bearer)
    assert (ended.status_code, ended.json()["code"]) == (401, "session_ended")


async def test_of_many_uses_at_once_one_wins(auth: RunningAuth, visitor: Visitor) -> None:
    code = await visitor.code(await auth.account())
    answers = await asyncio.gather(*(visitor.token(code) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 7]
    (won,) = [answer.json() for answer in answers if answer.status_code == 200]
    # Two parties held it, so what it began is over.
    assert (await visitor.refresh(won["refresh_token"])).status_code == 400


async def test_a_client_stays_signed_in_by_itself_alone(
    auth: RunningAuth, visitor: Visitor, new_work: Callable[[], SqlWork]
) -> None:
    account = await auth.account()
    tokens = (await visitor.token(await visitor.code(account, scope="chat account"))).json()
    assert tokens["scope"] == "account chat"
    other = await RegisterClient(new_work, SystemClock())("Another", [CALLBACK])
    stolen = await visitor.refresh(tokens["refresh_token"], client_id=other.client_id)
    assert stolen.json()["error"] == "invalid_grant"
    assert (await auth.refresh(tokens["refresh_token"])).status_code == 401
    taken = await visitor.refresh(account.refresh_token)
    assert taken.json()["error"] == "invalid_grant"
    newer = await visitor.refresh(tokens["refresh_token"])
    assert (newer.status_code, newer.json()["scope"]) == (200, "account chat")


async def test_a_client_sees_only_what_it_asked_for(auth: RunningAuth, visitor: Visitor) -> None:
    tokens = (await visitor.token(await visitor.code(await auth.account(), scope="chat"))).json()
    answer = await auth.me(tokens["access_token"])
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


async def test_revoking_signs_out_and_tells_nothing(auth: RunningAuth, visitor: Visitor) -> None:
    first, second = [
        (await visitor.token(await visitor.code(await auth.account()))).json() for _ in range(2)
    ]
    for token in (first["refresh_token"], second["access_token"], "unknown", "a.b.c", "\x00"):
        answer = await visitor.revoke(token, token_type_hint="anything")
        assert (answer.status_code, answer.json()) == (200, {})
    for tokens in (first, second):
        assert (await visitor.refresh(tokens["refresh_token"])).status_code == 400
    assert (await visitor.revoke("x", client_id="0" * 24)).status_code == 401
    assert (await visitor.auth.client.post("/oauth/revoke", data={})).status_code == 400


async def with_authenticator(auth: RunningAuth, account: Account) -> list[str]:
    """Give the account a second factor; answers its recovery codes."""
    begun = await auth.client.post("/auth/mfa/totp", headers=account.headers)
    otp = pyotp.TOTP(begun.json()["secret"]).now()
    confirmed = await auth.client.post(
        "/auth/mfa/totp/confirm", json={"otp": otp}, headers=account.headers
    )
    assert confirmed.status_code == 200, confirmed.text
    return list(confirmed.json()["recovery_codes"])


async def test_a_second_factor_is_asked_for_in_a_second_step(
    auth: RunningAuth, visitor: Visitor
) -> None:
    account = await auth.account()
    code, *_ = await with_authenticator(auth, account)
    await visitor.open()
    asking = await visitor.submit(login=account.username, password=account.password)
    assert asking.status_code == 200
    assert re.search('id="otp"[^>]*autocomplete="one-time-code"', asking.text)
    assert account.username in asking.text
    assert account.password not in asking.text
    carried = visitor.hidden["first_step"]
    wrong = await visitor.submit(otp="000000")
    shown_again(wrong)
    assert visitor.hidden["first_step"] == carried
    done = await visitor.submit(otp=code)
    assert done.status_code == 303
    tokens = (await visitor.token(returned(done)["code"])).json()
    claims = tokens["access_token"].split(".")[1]
    assert json.loads(urlsafe_b64decode(claims + "=="))["amr"] == ["pwd", "recovery"]


async def test_the_second_step_is_this_browsers_and_no_way_around_the_first(
    auth: RunningAuth, visitor: Visitor, client: OAuthClient
) -> None:
    account = await auth.account()
    code, *_ = await with_authenticator(auth, account)
    await visitor.open()
    await visitor.submit(login=account.username, password=account.password)
    other = Visitor(auth, client)
    await other.open()
    for carried in (visitor.hidden["first_step"], "x", "A" * 200):
        answer = await other.submit(otp=code, first_step=carried)
        shown_again(answer)
        assert 'id="password"' in answer.text
    assert (await visitor.submit(otp=code)).status_code == 303, "the code was not used up"


Act = Callable[[RunningAuth, Account, Callable[[], SqlWork]], Awaitable[None]]


async def factor_added(auth: RunningAuth, account: Account, _work: Callable[[], SqlWork]) -> None:
    await with_authenticator(auth, account)


async def factor_removed(auth: RunningAuth, account: Account, _work: Callable[[], SqlWork]) -> None:
    answer = await auth.client.delete("/auth/mfa/totp", headers=account.headers)
    assert answer.status_code == 204, answer.text


async def factor_reset(_auth: RunningAuth, account: Account, work: Callable[[], SqlWork]) -> None:
    await ResetSecondFactor(work, SystemClock())(account.username)


async def role_changed(_auth: RunningAuth, account: Account, work: Callable[[], SqlWork]) -> None:
    await AssignRole(work, SystemClock())(account.username, Role.MEMBER)


async def signed_out(auth: RunningAuth, account: Account, _work: Callable[[], SqlWork]) -> None:
    answer = await auth.client.post("/auth/logout?everywhere=true", headers=account.headers)
    assert answer.status_code == 204, answer.text


@pytest.mark.parametrize(
    ("act", "has_factor"),
    [
        (factor_added, False),
        (factor_removed, True),
        (factor_reset, True),
        (role_changed, False),
        (signed_out, False),
    ],
)
async def test_what_ends_all_sign_ins_voids_codes_that_nobody_redeemed(
    auth: RunningAuth,
    visitor: Visitor,
    new_work: Callable[[], SqlWork],
    act: Act,
    has_factor: bool,
) -> None:
    account, other = await auth.account(), await auth.account()
    recovery = await with_authenticator(auth, account) if has_factor else []
    await visitor.open()
    answer = await visitor.submit(login=account.username, password=account.password)
    if has_factor:
        answer = await visitor.submit(otp=recovery[0])
    code, others = returned(answer)["code"], await visitor.code(other)
    if has_factor:
        body = {"password": account.password, "otp": recovery[1]}
        proven = await auth.client.post("/auth/step-up", json=body, headers=account.headers)
        account = replace(account, access_token=proven.json()["access_token"])
    await act(auth, account, new_work)
    refused = await visitor.token(code)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert (await visitor.token(others)).status_code == 200, "another user's code is untouched"


async def test_no_code_slips_past_signing_out_everywhere(
    auth: RunningAuth, visitor: Visitor, new_work: Callable[[], SqlWork]
) -> None:
    """Whichever comes first: the code is void, or what it began is over."""
    for _ in range(6):
        account = await auth.account()
        code = await visitor.code(account)
        answer, _ = await asyncio.gather(visitor.token(code), signed_out(auth, account, new_work))
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200:
            again = await visitor.refresh(answer.json()["refresh_token"])
            assert again.status_code == 400, "the sign-in outlived signing out everywhere"


async def test_redeeming_waits_for_whoever_ends_all_sign_ins_and_holds_nothing_meanwhile(
    auth: RunningAuth, visitor: Visitor, new_work: Callable[[], SqlWork]
) -> None:
    account = await auth.account()
    code = await visitor.code(account)
    async with new_work() as work:
        await work.users.hold(UserId(account.id))
        redeeming = asyncio.create_task(visitor.token(code))
        _, waiting = await asyncio.wait({redeeming}, timeout=0.5)
        assert waiting, "it has to see what becomes of the account"
        now = datetime.now(UTC)
        await work.sign_ins.end_all_of(UserId(account.id), EndReason.SECOND_FACTOR_CHANGED, now)
    answer = await redeeming
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_client_makes_no_token_that_may_more_than_itself(
    auth: RunningAuth, visitor: Visitor
) -> None:
    tokens = (await visitor.token(await visitor.code(await auth.account(), scope="account"))).json()
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    wish = {"name": "x", "scopes": ["chat", "voice", "billing:read"], "expires_in_days": 365}
    answer = await auth.client.post("/auth/tokens", json=wish, headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_not_held")
    assert answer.json()["lacking"] == ["billing:read", "chat", "voice"]


async def test_a_personal_token_made_for_a_client_ends_with_it(
    auth: RunningAuth, visitor: Visitor, new_work: Callable[[], SqlWork]
) -> None:
    account = await auth.account()
    code = await visitor.code(account, scope="account chat")
    bearer = {"authorization": f"Bearer {(await visitor.token(code)).json()['access_token']}"}
    wish = {"name": "x", "scopes": ["chat"], "expires_in_days": 365}
    made, own = [
        (await auth.client.post("/auth/tokens", json=wish, headers=headers)).json()
        for headers in (bearer, account.headers)
    ]
    listed = (await auth.client.get("/auth/tokens", headers=account.headers)).json()["data"]
    assert [one["client_id"] for one in listed] == [None, visitor.client.client_id]
    door = "/internal/personal-tokens/exchange"
    shown = {"authorization": f"Bearer {made['token']}"}
    assert (await auth.internal.get(door, headers=shown)).status_code == 200
    await DisableClient(new_work, SystemClock())(visitor.client.client_id)
    assert (await auth.internal.get(door, headers=shown)).status_code == 401
    async with new_work() as work:
        ended = await work.ended_credentials.since(datetime.now(UTC) - timedelta(minutes=1))
    assert UUID(made["id"]) in ended, "nor is what stood for it good any more"
    shown = {"authorization": f"Bearer {own['token']}"}
    assert (await auth.internal.get(door, headers=shown)).status_code == 200
    answer = await auth.client.post("/auth/tokens", json=wish, headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


async def test_no_token_is_made_beside_the_end_of_its_client(
    auth: RunningAuth, new_work: Callable[[], SqlWork]
) -> None:
    """Of making one and disabling its client at once, either the token is refused or revoked."""
    wish = {"name": "x", "scopes": ["chat"], "expires_in_days": 365}
    for _ in range(6):
        client = await RegisterClient(new_work, SystemClock())("Another", [CALLBACK])
        visitor = Visitor(auth, client)
        tokens = (await visitor.token(await visitor.code(await auth.account()))).json()
        bearer = {"authorization": f"Bearer {tokens['access_token']}"}
        answer, _ = await asyncio.gather(
            auth.client.post("/auth/tokens", json=wish, headers=bearer),
            DisableClient(new_work, SystemClock())(client.client_id),
        )
        assert answer.status_code in (201, 401), answer.text
        if answer.status_code == 201:
            shown = {"authorization": f"Bearer {answer.json()['token']}"}
            door = "/internal/personal-tokens/exchange"
            assert (await auth.internal.get(door, headers=shown)).status_code == 401


async def test_whatever_a_client_begins_waits_for_whoever_disables_it(
    auth: RunningAuth, visitor: Visitor, new_work: Callable[[], SqlWork]
) -> None:
    account = await auth.account()
    tokens = (await visitor.token(await visitor.code(account))).json()
    code = await visitor.code(account)
    wish = {"name": "x", "scopes": ["chat"], "expires_in_days": 365}
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    async with new_work() as work:
        await work.oauth_clients.disable(visitor.client.disabled(datetime.now(UTC)))
        begun = {
            asyncio.create_task(visitor.token(code)),
            asyncio.create_task(auth.client.post("/auth/tokens", json=wish, headers=bearer)),
        }
        done, _ = await asyncio.wait(begun, timeout=0.5)
        assert not done, "it would go on after its client has ended"
    answers = await asyncio.gather(*begun)
    assert {answer.json().get("code", "") for answer in answers} == {
        "unknown_client",
        "session_ended",
    }
    async with new_work() as work:
        live = await work.sign_ins.live_of(
            UserId(account.id), datetime.now(UTC), before=None, most=10
        )
    assert [one.client_id for one in live].count(visitor.client.client_id) == 1


async def test_cancelling_tells_the_client(visitor: Visitor) -> None:
    text = (await visitor.open()).text
    found = re.search(r'<a href="([^"]*)">Cancel</a>', text)
    assert found is not None
    back = urlsplit(html.unescape(found[1]))
    assert f"{back.scheme}://{back.netloc}{back.path}" == CALLBACK
    assert parse_qs(back.query)["error"] == ["access_denied"]


async def test_a_page_that_is_looked_at_changes_nothing(auth: RunningAuth) -> None:
    for path in ("verify-email?token=abc", "reset-password?token=abc"):
        answer = await auth.client.get(f"/oauth/{path}")
        assert answer.status_code == 200
        assert dict(_HIDDEN.findall(answer.text))["token"] == "abc"
    without = await auth.client.get("/oauth/verify-email")
    assert "Code in the mail" in without.text


async def test_a_code_is_remembered_for_as_long_as_it_is_asked(
    auth: RunningAuth, visitor: Visitor, new_work: Callable[[], SqlWork]
) -> None:
    code = await visitor.code(await auth.account())
    code_hash = hash_of_code(code)
    assert code_hash is not None
    async with new_work() as work:
        kept = await work.authorization_codes.hold(code_hash)
        assert kept is not None
        assert (kept.client_id, kept.used_at) == (visitor.client.client_id, None)
        assert await work.oauth_clients.get(kept.client_id) == visitor.client
        assert visitor.client in await work.oauth_clients.all()
    for before, left in ((kept.expires_at, True), (kept.expires_at + timedelta(seconds=1), False)):
        async with new_work() as work:
            await work.authorization_codes.forget_before(before, most=1000)
            assert (await work.authorization_codes.hold(code_hash) is not None) == left
