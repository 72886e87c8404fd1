"""Whatever takes GET takes HEAD, of every service: uptime monitors and load balancers ask so.

A new operation is tried here by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from tests.support.openapi import Operation
from tests.support.suite import Person, Suite, a_person
from tests.support.tenants import OWNED, SERVICES, all_operations, request_for, together

pytestmark = pytest.mark.e2e

NOBODYS = dict.fromkeys(OWNED, "0198c0de-0000-7000-8000-0000000000ff")
# What is another one each time, and how a body is sent.
MOVING = ("date", "x-request-id", "request-id", "content-length", "transfer-encoding")
COUNTED = ("ratelimit", "retry-after", "x-ratelimit-", "anthropic-ratelimit-", "x-companion-")


@pytest.fixture
async def bookkeeper(suite: Suite) -> AsyncIterator[Person]:
    """One of the billing team, without whom half of billing refuses everybody."""
    person = a_person(suite)
    made = await asyncio.to_thread(
        suite.command,
        *("admin", "create", "--email", f"{person.name}@example.com", "--role", "billing"),
        COMPANION_ADMIN_PASSWORD=person.password,
    )
    assert made.returncode == 0, made.stderr
    await person.sign_in()
    yield person
    await person.client.aclose()


async def test_every_operation_that_takes_get_takes_head(ada: Person, bookkeeper: Person) -> None:
    asked = await ada.ask("hello")
    assert asked.status_code == 200, asked.text
    ids = {**NOBODYS, "session_id": ada.session_id}
    found = [one for one in await all_operations(ada.client) if one.method == "GET"]

    async def difference(operation: Operation) -> tuple[int, Any]:
        client = (bookkeeper if operation.path.startswith("/billing/admin") else ada).client
        named = {name: ids[name] for name in operation.path_parameters if name in ids}
        request = request_for(operation, named)
        got = await client.request(**request)
        head = await client.request(**{**request, "method": "HEAD"})
        seen = [(answer.status_code, lasting(answer.headers)) for answer in (got, head)]
        is_same = seen[0] == seen[1] and head.content == b""
        return got.status_code, None if is_same else (str(operation), *seen, head.content)

    answers = await together(map(difference, found), at_once=4)

    assert [told for _, told in answers if told] == []
    assert {operation.service for operation in found} == set(SERVICES)
    # Most of them have something to show.
    shown = [
        operation for operation, (status, _) in zip(found, answers, strict=True) if status == 200
    ]
    assert len(shown) > len(found) / 2 > 40


def lasting(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        # A form's secret is another one each time.
        name: value.partition("=")[0] if name == "set-cookie" else value
        for name, value in headers.items()
        if name not in MOVING and not name.startswith(COUNTED)
    }


async def test_a_monitor_needs_no_token_where_get_needs_none(suite: Suite) -> None:
    async with httpx.AsyncClient(base_url=suite.url, trust_env=False) as client:
        for path in ("/health", "/docs", *(f"/{service}/openapi.json" for service in SERVICES)):
            head = await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert int(head.headers["content-length"]) > 0
        assert (await client.head("/auth/me")).status_code == 401


@pytest.mark.parametrize("service", SERVICES)
async def test_a_probe_may_ask_so_at_the_internal_port(suite: Suite, service: str) -> None:
    async with httpx.AsyncClient(base_url=suite.internal_url(service), trust_env=False) as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            head = await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert int(head.headers["content-length"]) > 0


async def test_who_asks_for_a_running_answers_head_does_not_wait_for_it(ada: Person) -> None:
    """And asks nothing: no turn begins, and none ends."""
    path = f"/chat/sessions/{ada.session_id}/stream"
    assert (await ada.client.head(path)).status_code == 404
    async with ada.client.stream(
        "POST",
        f"/chat/sessions/{ada.session_id}/messages",
        json={"content": "hello", "stream": True},
    ) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        async with asyncio.timeout(5):
            head = await ada.client.head(path)
        assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
        told = [line async for line in lines]
    assert "event: done" in told
    messages = (await ada.client.get(f"/chat/sessions/{ada.session_id}/messages")).json()["data"]
    assert len(messages) == 2
