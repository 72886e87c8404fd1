"""The billing team's page of charts, through the gateway, in a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.browser import Page, a_browser
from tests.support.suite import Person, Suite, eventually

pytestmark = pytest.mark.e2e

PAGE = "/billing/admin/dashboard"


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    async with a_browser(tmp_path) as opened:
        yield opened


async def test_a_link_opens_it_in_a_browser_and_stands_in_no_log(
    suite: Suite, grace: Person, page: Page
) -> None:
    refused = await grace.client.post(f"{PAGE}/link")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_billing_staff")
    made = await asyncio.to_thread(
        suite.command,
        *("admin", "create", "--email", f"charts-{grace.name}@example.com", "--role", "billing"),
        COMPANION_ADMIN_PASSWORD=grace.password,
    )
    assert made.returncode == 0, made.stderr
    grace.name = f"charts-{grace.name}"
    await grace.sign_in()
    link = (await grace.client.post(f"{PAGE}/link")).json()["path"]

    await page.open(suite.url + PAGE)
    assert "closed" in await page.run("document.body.innerText")
    page.complaints.clear()  # of the 401
    await page.open(suite.url + link)
    await page.click("button")

    assert await page.address() == suite.url + PAGE
    # All that is used here is the sandbox's.
    assert await page.run("document.querySelectorAll('.empty').length") == 8
    assert page.complaints == []

    async def logged() -> str:
        return suite.log("gateway")

    secret = link.partition("token=")[2]
    log = await eventually(logged, lambda text: f'"{PAGE}/open"' in text)
    assert secret not in log + suite.log("billing")

    # Whoever signs out is out of the page, too.
    assert (await grace.client.post("/auth/logout")).status_code == 204

    async def shown() -> str:
        await page.open(suite.url + PAGE)
        return str(await page.run("document.body.innerText"))

    await eventually(shown, lambda text: "closed" in text)
