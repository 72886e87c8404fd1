"""The dashboard in a real browser: who gets in, and what is to be seen."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from services.billing.api.routes import routers
from services.billing.domain.ports import NewUnitOfWork
from services.billing.settings import Settings
from services.billing.wiring import Wired
from shared.db.database import Database
from shared.http.app import create_http_app
from shared.scopes import BILLING_READ
from tests.integration.billing.harness import actions_on
from tests.support.analytics import FIRST, Life, half_a_year
from tests.support.billing import StoppedClock
from tests.support.browser import Page, a_browser
from tests.support.sessions import know_ended_sessions
from tests.support.tokens import TokenMint, serving

PAGE = "/billing/admin/dashboard"


@dataclass
class Door:
    """The running application, its life, and somebody of the billing team."""

    url: str
    client: httpx.AsyncClient
    life: Life
    mint: TokenMint
    cache_url: str

    async def link(self, **claims: str) -> str:
        headers = self.mint.headers(uuid4(), role="billing", **claims)
        answer = await self.client.post(f"{PAGE}/link", headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["path"])


@pytest_asyncio.fixture
async def door(
    work: NewUnitOfWork,
    database: Database,
    settings: Callable[..., Settings],
    mint: TokenMint,
    engines: dict[str, str],
) -> AsyncIterator[Door]:
    here = settings(**engines, request_cost_microusd=20_000)
    clock = StoppedClock(FIRST)
    actions = actions_on(work, here, clock)

    @asynccontextmanager
    async def wired() -> AsyncIterator[Wired]:
        yield Wired(actions, database, {})

    process = create_http_app("billing", here, wire=wired, scope=BILLING_READ, routers=routers)
    async with (
        process.lifespan(),
        serving(process.public) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        life = Life(actions, clock, database)
        yield Door(url, client, life, mint, engines["cache_url"])


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    async with a_browser(tmp_path) as opened:
        yield opened


async def keep(page: Page, name: str, folder: Path) -> None:
    """Take a picture of the whole page; whoever wants to look at it says where they want it."""
    height = await page.run("document.documentElement.scrollHeight")
    width = await page.run("document.documentElement.clientWidth")
    dark = await page.run("matchMedia('(prefers-color-scheme: dark)').matches")
    await page.look_like(width=width, height=min(height, 6000), dark=dark)
    await page.picture(folder / name)
    if kept := os.environ.get("KEEP_PICTURES_IN"):
        shutil.copy(folder / name, kept)


async def test_a_link_lets_one_browser_in_and_the_page_is_right(
    door: Door, page: Page, tmp_path: Path
) -> None:
    await half_a_year(door.life, newcomers=int(os.environ.get("NEWCOMERS", "6")))
    path = await door.link()
    await page.look_like(width=1400, height=900)
    await page.open(door.url + path)
    assert "once" in await page.run("document.body.innerText")
    await page.click("button")
    assert await page.address() == door.url + PAGE
    assert await page.run("document.scripts.length") == 0
    # So few people may not leave at all: then there is no churn to be drawn.
    charts = await page.run("document.querySelectorAll('svg[role=img][aria-label]').length")
    assert charts + await page.run("document.querySelectorAll('.empty').length") == 8
    assert charts >= 7
    assert await page.run("document.querySelectorAll('.chart text').length") > 80
    # Each chart's figures stand in a table, too.
    assert await page.run("document.querySelectorAll('.card table').length") == 9
    assert await page.run(_CLIPPED) == []
    await keep(page, "dashboard-light.png", tmp_path)

    for width, dark in ((1400, True), (420, False)):
        await page.look_like(width=width, height=900, dark=dark)
        await page.open(door.url + PAGE)
        assert await page.run("document.documentElement.scrollWidth") <= width
        await keep(page, f"dashboard-{width}-{'dark' if dark else 'light'}.png", tmp_path)

    await page.look_like(width=1400, height=900)
    await page.open(f"{door.url}{PAGE}?from=2026-09&to=2026-10")
    assert await page.run("document.querySelector('[name=from]').value") == "2026-09"
    heads = "[...document.querySelectorAll('.cohorts tbody th')].map(th => th.innerText)"
    assert await page.run(heads) == ["September 2026", "October 2026"]
    assert page.complaints == []

    # What the policy would forbid is not there: the browser would have complained above.
    await page.open(f"{door.url}{PAGE}?from=2026-10&to=2026-09")
    assert "ends before" in await page.run("document.querySelector('[role=alert]').innerText")


# Labels that reach out of their drawing.
_CLIPPED = """
[...document.querySelectorAll('.chart svg')].flatMap(svg => {
    const frame = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('text')].filter(text => {
        const box = text.getBoundingClientRect();
        return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1
            || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
    }).map(text => svg.getAttribute('aria-label') + ': ' + text.textContent);
})
"""


async def test_a_link_works_once_and_for_a_minute(door: Door) -> None:
    form = {"token": (await door.link()).partition("token=")[2]}
    for _ in range(2):  # a look at the page uses nothing up
        shown = await door.client.get(f"{PAGE}/open", params=form)
        assert (shown.status_code, "<button" in shown.text) == (200, True)
    entered = await door.client.post(f"{PAGE}/open", data=form)
    assert (entered.status_code, entered.headers["location"]) == (303, PAGE)
    cookie = entered.headers["set-cookie"]
    for part in ("HttpOnly", "Secure", "SameSite=strict", f"Path={PAGE}", "Max-Age=840"):
        assert part in cookie
    again = await door.client.post(f"{PAGE}/open", data=form)
    assert (again.status_code, again.headers.get("set-cookie")) == (401, None)

    late = {"token": (await door.link()).partition("token=")[2]}
    door.life.clock.forward(timedelta(minutes=1))
    assert (await door.client.post(f"{PAGE}/open", data=late)).status_code == 401
    for bad in (b"", b"token=", b"token=%ff%00", b"\xff", b"&".join([b"a=1"] * 99)):
        answer = await door.client.post(f"{PAGE}/open", content=bad)
        assert (answer.status_code, "over" in answer.text) == (401, True)
    assert (await door.client.get(f"{PAGE}/open?token=<script>")).status_code == 401


async def test_only_the_billing_team_makes_links(door: Door) -> None:
    headers = door.mint.headers(uuid4())
    assert (await door.client.post(f"{PAGE}/link", headers=headers)).status_code == 403
    assert (await door.client.post(f"{PAGE}/link")).status_code == 401


async def test_a_visit_ends_with_its_time_and_with_the_sign_in(door: Door) -> None:
    async def visit(**claims: str) -> dict[str, str]:
        form = {"token": (await door.link(**claims)).partition("token=")[2]}
        entered = await door.client.post(f"{PAGE}/open", data=form)
        door.client.cookies.clear()
        found = re.match("([^=]+=[^;]+);", entered.headers["set-cookie"])
        assert found
        return {"cookie": found[1]}

    session = uuid4()
    mine, other = await visit(), await visit(sid=str(session))
    for cookie in (mine, other):
        answer = await door.client.get(PAGE, headers=cookie)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
    await know_ended_sessions(door.cache_url, [session])
    assert (await door.client.get(PAGE, headers=other)).status_code == 401
    assert (await door.client.get(PAGE, headers=mine)).status_code == 200
    door.life.clock.forward(timedelta(minutes=14))
    assert (await door.client.get(PAGE, headers=mine)).status_code == 401
    # An access token in its place opens nothing here, and neither does nothing.
    bearer = door.mint.headers(uuid4(), role="billing")
    assert (await door.client.get(PAGE, headers=bearer)).status_code == 401


@pytest.mark.parametrize("query", ["from=now", "from=2026-13", "to=2020-01&from=2026-01", "from=1"])
async def test_a_period_that_cannot_be_is_told_on_the_page(door: Door, query: str) -> None:
    form = {"token": (await door.link()).partition("token=")[2]}
    await door.client.post(f"{PAGE}/open", data=form)
    # Over plain http a client of ours sends no cookie that is for https only.
    cookie = "; ".join(f"{c.name}={c.value}" for c in door.client.cookies.jar)
    answer = await door.client.get(f"{PAGE}?{query}", headers={"cookie": cookie})
    assert (answer.status_code, 'role="alert"' in answer.text) == (422, True)
