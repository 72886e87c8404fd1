"""The login page: who may frame, script or send it, and what it says to whom."""

from __future__ import annotations

import hashlib
import html
import re
from base64 import b64encode
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from services.auth.api.login_page import SCOPES_IN_WORDS
from services.auth.domain.oauth_client import OAuthClient
from shared.scopes import ACCOUNT, CHAT, SIGN_IN_SCOPES, USAGE_WRITE
from tests.integration.auth.oauth.conftest import (
    EVIL,
    FORM,
    HIDDEN_FIELDS,
    Visitor,
    returned,
    shown_again,
)
from tests.support.auth import PASSWORD, RunningAuth
from tests.support.auth_oauth import CALLBACK, request_of


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
        visitor.hidden["csrf"] = dict(HIDDEN_FIELDS.findall(shown.text))["csrf"]
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
