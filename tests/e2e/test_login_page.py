"""A person signs in with a real browser, as an extension lets them."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.support.auth_mails import mails_to, text_of, token_in
from tests.support.auth_oauth import VERIFIER, request_of
from tests.support.browser import Page, a_browser
from tests.support.suite import Person, Suite, eventually
from tests.support.tokens import serving

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def client_id(suite: Suite) -> str:
    added = suite.command(
        *("auth", "clients", "add", "--name", "ToolTip for Chromium"),
        *("--redirect-uri", "http://127.0.0.1/cb"),
    )
    assert added.returncode == 0, added.stderr
    return added.stdout.strip()


@pytest.fixture(scope="module")
async def callback() -> AsyncIterator[str]:
    """Where the extension waits for its answer."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/html; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        page = b'<!doctype html><title>back</title><link rel="icon" href="data:,"><p>Back.'
        await send({"type": "http.response.body", "body": page})

    async with serving(app) as url:
        yield f"{url}/cb"


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    async with a_browser(tmp_path) as opened:
        yield opened


async def keep(page: Page, picture: Path) -> None:
    """Take a picture; whoever wants to look at it says where they want it."""
    await page.picture(picture)
    if folder := os.environ.get("KEEP_PICTURES_IN"):
        shutil.copy(picture, folder)


async def test_from_the_login_page_to_the_first_call(
    suite: Suite, grace: Person, page: Page, client_id: str, callback: str, tmp_path: Path
) -> None:
    request = request_of(client_id, redirect_uri=callback, scope="account chat")
    await page.look_like(width=400, height=640)
    await page.open(f"{suite.url}/oauth/authorize?{urlencode(request)}")
    focused = partial(page.run, "document.activeElement.id")
    await eventually(focused, lambda id_: id_ == "login")
    assert "ToolTip for Chromium" in await page.run("document.body.innerText")
    # Nothing to be scrolled sideways in the small window of an extension.
    assert await page.run("document.documentElement.scrollWidth") <= 400

    await page.type("#login", grace.name)
    await page.type("#password", "a wrong password")
    await page.press_enter()
    await keep(page, tmp_path / "wrong.png")
    assert "wrong" in await page.run("document.querySelector('[role=alert]').innerText")
    # At 400 and above the window of an extension would have closed, and said nothing.
    assert page.complaints == []
    assert await page.run("document.querySelector('#login').value") == grace.name
    assert await page.run("document.activeElement.id") == "password"

    await page.type("#password", grace.password)
    await page.press_enter()
    back = urlsplit(await page.address())
    assert f"{back.scheme}://{back.netloc}{back.path}" == callback
    answer = {name: value for name, (value,) in parse_qs(back.query).items()}
    assert (answer["state"], answer["iss"]) == ("a state", suite.url)
    assert page.complaints == []

    redemption = {
        "grant_type": "authorization_code",
        "client_id": client_id,
        "redirect_uri": callback,
        "code": answer["code"],
        "code_verifier": VERIFIER,
    }
    tokens = await grace.client.post("/oauth/token", data=redemption)
    assert tokens.status_code == 200, tokens.text
    bearer = {"authorization": f"Bearer {tokens.json()['access_token']}"}
    me = await grace.client.get("/auth/me", headers=bearer)
    assert me.json()["username"] == grace.name

    async def logged() -> str:
        return suite.log("gateway")

    # What the gateway writes down opens nothing.
    log = await eventually(logged, lambda text: '"/oauth/token"' in text)
    assert answer["code"] not in log
    assert tokens.json()["refresh_token"] not in log


async def test_the_metadata_lies_below_the_issuer_that_it_names(
    suite: Suite, grace: Person
) -> None:
    """What strict libraries ask for (RFC 8414, section 3.3)."""
    answer = await grace.client.get("/.well-known/oauth-authorization-server")
    assert answer.json()["issuer"] == suite.url


async def the_link(suite: Suite, person: Person, subject: str) -> str:
    """The link in the mail with this subject, once it is there."""

    async def look() -> list[str]:
        mails = mails_to(suite.installation.data.mail, f"{person.name}@example.com")
        return [text_of(mail) for mail in mails if mail["Subject"] == subject]

    text = (await eventually(look, bool))[-1]
    return next(line for line in text.splitlines() if line.startswith("http"))


async def test_the_links_in_mails_lead_to_pages_that_work(
    suite: Suite, grace: Person, page: Page
) -> None:
    link = await the_link(suite, grace, "Confirm your e-mail address")
    await page.open(link)
    assert (await grace.client.get("/auth/me")).json()["email_verified"] is False
    await page.click("button")
    assert "confirmed" in await page.run("document.querySelector('[role=status]').innerText")
    assert (await grace.client.get("/auth/me")).json()["email_verified"] is True

    await page.open(f"{suite.url}/oauth/forgot-password")
    await page.type("#email", f"{grace.name}@example.com")
    await page.press_enter()
    link = await the_link(suite, grace, "Choose a new password")
    await page.open(link)
    await page.type("#new_password", "too short")
    await page.press_enter()
    assert "12" in await page.run("document.querySelector('[role=alert]').innerText")
    await page.type("#new_password", "eleven geese cross a bridge")
    await page.press_enter()
    assert "saved" in await page.run("document.querySelector('[role=status]').innerText")
    grace.password = "eleven geese cross a bridge"
    await grace.sign_in()
    assert page.complaints == []
    assert token_in(link) not in suite.log("gateway") + suite.log("auth")


async def test_an_operator_decides_who_may_ask(suite: Suite, grace: Person, callback: str) -> None:
    clients = ("auth", "clients")
    words = ("--redirect-uri", callback, "--redirect-uri", "https://app.example/cb")
    added = suite.command(*clients, "add", "--name", "Short-lived", *words)
    client_id = added.stdout.strip()
    assert f"{client_id}  enabled   Short-lived  {callback} https://app.example/cb" in (
        suite.command(*clients, "list").stdout
    )
    path = f"/oauth/authorize?{urlencode(request_of(client_id, redirect_uri=callback))}"
    assert (await grace.client.get(path)).status_code == 200
    assert suite.command(*clients, "disable", client_id).returncode == 0
    assert (await grace.client.get(path)).status_code == 400


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_the_pages_look_right_and_nothing_complains(
    suite: Suite, page: Page, client_id: str, callback: str, dark: bool, tmp_path: Path
) -> None:
    query = urlencode(request_of(client_id, redirect_uri=callback))
    seen = {
        "login": f"/oauth/authorize?{query}",
        "forgot": "/oauth/forgot-password",
        "register": f"/oauth/register?{query}",
        "reset": "/oauth/reset-password?token=abc",
        "verify": "/oauth/verify-email?token=abc",
        "join": "/oauth/accept-invitation?token=abc",
    }
    for name, path in seen.items():
        for width in (400, 1000):
            await page.look_like(width=width, height=640, dark=dark)
            await page.open(suite.url + path)
            assert await page.run("document.documentElement.scrollWidth") <= width
            await keep(page, tmp_path / f"{name}-{width}-{'dark' if dark else 'light'}.png")
        ground = await page.run("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(20, 23, 30)") is dark
    assert page.complaints == []
