"""A personal access token in official SDKs, through the whole suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.support.suite import Person, Suite, eventually

pytestmark = pytest.mark.e2e


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that holds nothing but a token."""

    suite: Suite
    id: str
    token: str

    @property
    def openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.suite.url}/v1", api_key=self.token, max_retries=0
        )

    async def call(self, path: str, method: str = "GET", **parts: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(
            base_url=self.suite.url, headers=headers, trust_env=False
        ) as client:
            return await client.request(method, path, **parts)


async def a_tool(owner: Person, *scopes: str) -> Tool:
    wish = {"name": "an editor", "scopes": scopes, "expires_in_days": 1}
    answer = await owner.client.post("/auth/tokens", json=wish)
    assert answer.status_code == 201, answer.text
    return Tool(owner.suite, answer.json()["id"], answer.json()["token"])


@pytest.fixture
async def tool(ada: Person) -> AsyncIterator[Tool]:
    """May chat in Ada's name."""
    yield await a_tool(ada, "chat")


async def known_models(tool: Tool) -> list[str]:
    async with tool.openai as client:
        return [model.id for model in (await client.models.list()).data]


async def test_openais_sdk_takes_it_for_its_key(ada: Person, tool: Tool) -> None:
    names = await eventually(lambda: known_models(tool), lambda names: names != [])

    def in_plain_functions() -> tuple[list[str], str]:
        with openai.OpenAI(base_url=f"{ada.suite.url}/v1", api_key=tool.token) as client:
            return [m.id for m in client.models.list()], client.models.retrieve(names[0]).owned_by

    assert await asyncio.to_thread(in_plain_functions) == (names, "openai")


async def test_anthropics_sdk_gets_past_the_gateway_with_it(ada: Person, tool: Tool) -> None:
    """The tier has no such vendor, and it is chat that says so: the token was good."""
    async with anthropic.AsyncAnthropic(
        base_url=f"{ada.suite.url}/anthropic", api_key=tool.token, max_retries=0
    ) as client:
        with pytest.raises(anthropic.PermissionDeniedError) as refused_by_tier:
            await client.messages.create(
                model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}]
            )
        assert refused_by_tier.value.error_code == "provider_not_in_tier"
        with pytest.raises(anthropic.AuthenticationError) as refused:
            await client.with_options(api_key=tool.token[:-1] + "!").models.list()
        assert refused.value.response.json()["code"] == "personal_token_refused"


@pytest.mark.parametrize("header", ["x-api-key", "x-goog-api-key", "xi-api-key"])
async def test_chat_reads_one_kind_of_identity(ada: Person, tool: Tool, header: str) -> None:
    async with httpx.AsyncClient(
        base_url=ada.suite.url, headers={header: tool.token}, trust_env=False
    ) as client:
        answer = await client.get("/chat/sessions")
    assert answer.status_code == 200
    assert ada.session_id in {session["id"] for session in answer.json()["data"]}


async def test_it_opens_neither_keys_nor_account_nor_administration(
    ada: Person, tool: Tool
) -> None:
    calls = [
        ("GET", "/keys"),
        ("GET", "/keys/openai"),
        ("PUT", "/keys/openai"),
        ("DELETE", "/keys/openai"),
        ("GET", "/auth/me"),
        ("GET", "/auth/sessions"),
        ("GET", "/auth/tokens"),
        ("POST", "/auth/tokens"),
        ("GET", "/billing/usage"),
        ("GET", "/billing/admin/reconciliation"),
        ("GET", "/voice/voices"),
    ]
    for method, path in calls:
        answer = await tool.call(path, method)
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path
    reader = await a_tool(ada, "billing:read")
    assert (await reader.call("/billing/usage")).status_code == 200
    wish = {"tier": "enterprise"}
    assert (await reader.call("/billing/admin/reconciliation")).status_code == 403
    assert (await reader.call("/billing/subscription", "PUT", json=wish)).status_code == 403


async def test_a_revoked_one_is_refused_at_the_next_call(ada: Person, tool: Tool) -> None:
    await known_models(tool)
    assert (await ada.client.delete(f"/auth/tokens/{tool.id}")).status_code == 204
    with pytest.raises(openai.AuthenticationError):
        await known_models(tool)
    for path in ("/chat/sessions", "/keys", "/v1/models"):
        answer = await tool.call(path)
        assert (answer.status_code, answer.json()["code"]) == (401, "personal_token_refused")


async def test_an_expired_one_is_refused(ada: Person, tool: Tool) -> None:
    await known_models(tool)
    ada.suite.rows(
        "auth",
        "update personal_token set expires_at = now() where id = %s::uuid returning 1",
        tool.id,
    )
    with pytest.raises(openai.AuthenticationError):
        await known_models(tool)


async def test_it_leaves_no_trace_in_logs_and_databases(ada: Person, tool: Tool) -> None:
    await known_models(tool)
    await tool.call("/chat/sessions")
    secret = tool.token[4:-6]
    for name in ("gateway", "auth", "chat"):
        assert secret not in ada.suite.log(name)
    rows = ada.suite.rows("auth", "select t::text from personal_token t") + ada.suite.rows(
        "auth", "select e::text from audit_event e"
    )
    assert rows
    assert secret not in repr(rows)


async def test_while_auth_is_away_it_is_not_called_bad(ada: Person, tool: Tool) -> None:
    await known_models(tool)
    killed = ada.suite.kill("auth")
    answers: list[Any] = []

    async def at_work_again() -> bool:
        answers.append(await tool.call("/chat/sessions"))
        return ada.suite.running.pid_of("auth") != killed and answers[-1].status_code == 200

    await eventually(at_work_again, bool, seconds=30)
    assert {answer.status_code for answer in answers} == {200, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.json()["code"] == "unavailable"
    assert refused.headers["retry-after"]


async def test_a_service_outside_tells_usage_with_a_token_of_the_operators(
    ada: Person, grace: Person
) -> None:
    """The screenshot service has no account of the user's, and no key."""
    sql = "update user_account set role = 'operator' where id = %s returning role"
    assert ada.suite.rows("auth", sql, ada.id) == [("operator",)]
    await ada.refresh()
    service = await a_tool(ada, "usage:write")
    event = {
        "specversion": "1.0",
        "id": f"shot-{service.id}",
        "source": "/screenshots",
        "type": "usage.reported",
        "subject": grace.id,
        "time": datetime.now(UTC).isoformat(),
        "data": {"meter": "screenshot", "quantity": 3},
    }
    for counts in ((1, 0), (0, 1)):
        answer = await service.call("/billing/usage/events", "POST", json=[event])
        assert answer.status_code == 202, answer.text
        assert (answer.json()["accepted"], answer.json()["duplicates"]) == counts
    [record] = (await grace.client.get("/billing/usage/records")).json()["data"]
    assert (record["operation"], record["units"], record["cost_microusd"]) == (
        "screenshot",
        3,
        None,
    )
    refused = await service.call("/billing/usage")
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
