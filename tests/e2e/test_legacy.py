"""The older Express service behind the gateway: the same tokens, and its usage in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.test_stalls import stalled
from tests.gateway.servers import serving
from tests.support.legacy import Legacy, running_legacy
from tests.support.suite import Person, Suite, a_person, eventually

pytestmark = pytest.mark.e2e

PAGE = {"html": "<h1>A tooltip</h1>", "width": 320, "height": 200}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
async def usage_token(suite: Suite) -> str:
    """What an operator makes for a service that reports usage (docs/legacy.md)."""
    staff = a_person(suite)
    made = await asyncio.to_thread(
        suite.command,
        *("admin", "create", "--email", f"{staff.name}@example.com", "--role", "billing"),
        COMPANION_ADMIN_PASSWORD=staff.password,
    )
    assert made.returncode == 0, made.stderr
    async with staff.client:
        await staff.sign_in()
        wish = {"name": "legacy", "scopes": ["usage:write"], "expires_in_days": 365}
        answer = await staff.client.post("/auth/tokens", json=wish)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


@pytest.fixture
async def legacy(
    suite: Suite, legacy_port: int, usage_token: str, tmp_path: Path
) -> AsyncIterator[Legacy]:
    jwks = f"{suite.url}/.well-known/jwks.json"
    with running_legacy(
        tmp_path,
        legacy_port,
        gateway=suite.url,
        jwks=jwks,
        issuer=suite.url,
        token=usage_token,
    ) as running:
        await ready(running)
        yield running


async def ready(legacy: Legacy) -> None:
    async def alive() -> bool:
        assert legacy.process.poll() is None, legacy.log
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                url = f"http://127.0.0.1:{legacy.internal_port}/readyz"
                return (await client.get(url)).status_code == 200
        except httpx.TransportError:
            return False

    await eventually(alive, bool)


async def take(person: Person, **page: Any) -> httpx.Response:
    return await person.client.post("/legacy/screenshot", json={**PAGE, **page})


async def screenshots(person: Person) -> list[dict[str, Any]]:
    answer = await person.client.get("/billing/usage/records")
    assert answer.status_code == 200, answer.text
    return [row for row in answer.json()["data"] if row["operation"] == "screenshot"]


async def test_a_call_without_a_good_token_ends_at_the_gateway(
    suite: Suite, grace: Person, legacy: Legacy
) -> None:
    for headers in ({}, {"authorization": "Bearer x.y.z"}):
        async with httpx.AsyncClient(base_url=suite.url, trust_env=False) as stranger:
            answer = await stranger.post("/legacy/screenshot", json=PAGE, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
    assert legacy.waiting() == []


async def test_a_screenshot_stands_in_its_users_ledger(
    suite: Suite, grace: Person, legacy: Legacy
) -> None:
    picture = await take(grace)
    assert (picture.status_code, picture.content[:8]) == (200, PNG), picture.text
    [row] = await eventually(lambda: screenshots(grace), bool)
    assert row["request_id"] == picture.headers["x-request-id"]
    assert (row["units"], row["sandbox"]) == (1, True)
    assert legacy.process.poll() is None
    assert grace.client.headers["authorization"].partition(" ")[2] not in legacy.log


async def test_a_personal_token_needs_the_scope(
    suite: Suite, grace: Person, legacy: Legacy
) -> None:
    for scope, status in (("billing:read", 403), ("chat", 200)):
        wish = {"name": scope, "scopes": [scope], "expires_in_days": 1}
        made = (await grace.client.post("/auth/tokens", json=wish)).json()
        headers = {"authorization": f"Bearer {made['token']}"}
        async with httpx.AsyncClient(base_url=suite.url, trust_env=False, timeout=30) as tool:
            answer = await tool.post("/legacy/screenshot", json=PAGE, headers=headers)
        assert answer.status_code == status, answer.text
    assert len(await eventually(lambda: screenshots(grace), bool)) == 1


async def test_a_page_reaches_no_address(suite: Suite, grace: Person, legacy: Legacy) -> None:
    async with serving("neighbour") as neighbour:
        url = f"http://{neighbour.endpoint}"
        tags = f"<img src={url}/a><iframe src={url}/b></iframe><link rel=stylesheet href={url}/c>"
        script = f"<script>fetch('{url}/d')</script><meta http-equiv=refresh content='0;{url}/e'>"
        answer = await take(grace, html=tags + script)
    assert answer.status_code in (200, 503)  # a page that leads away may have no picture
    assert neighbour.received == []


async def test_while_billing_is_away_and_after_a_crash_each_counts_once(
    suite: Suite, grace: Person, legacy: Legacy, legacy_port: int, usage_token: str
) -> None:
    with stalled(suite, "billing"):
        assert (await take(grace)).status_code == 200
        [waiting] = legacy.waiting()
        event = waiting.read_text()
        legacy.kill()  # with its report under way: billing may still get to read it
    jwks = f"{suite.url}/.well-known/jwks.json"
    with running_legacy(
        legacy.folder,
        legacy_port,
        gateway=suite.url,
        jwks=jwks,
        issuer=suite.url,
        token=usage_token,
    ) as again:
        await ready(again)
        await eventually(told(again, "accepted", "duplicates"), lambda count: count == 1)
        assert len(await screenshots(grace)) == 1
        waiting.write_text(event)  # as if the report's answer had been lost
        assert (await take(grace)).status_code == 200
        await eventually(told(again, "accepted", "duplicates"), lambda count: count == 3)
        assert sum(report["duplicates"] for report in again.reports()) >= 1
        assert len(await screenshots(grace)) == 2
        assert again.waiting() == []


def told(legacy: Legacy, *states: str) -> Callable[[], Awaitable[int]]:
    """How many events of its reports ended so."""

    async def count() -> int:
        return sum(report[state] for report in legacy.reports() for state in states)

    return count
