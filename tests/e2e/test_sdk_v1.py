"""OpenAI's SDK over all vendors, with a personal token, through the whole suite to the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.e2e.test_personal_tokens import Tool, a_tool
from tests.support.suite import Person, eventually

pytestmark = pytest.mark.e2e

MODELS = {
    "openai": "openai/gpt-6-luna",
    "anthropic": "anthropic/claude-sonnet-5-5",
    "gemini": "gemini/gemini-3.8-flash",
}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "lookup",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
    },
}


@pytest.fixture
async def tool(ada: Person) -> AsyncIterator[Tool]:
    """May chat in the name of an enterprise user with a key at each vendor."""
    await ada.become("enterprise")
    for provider in ("anthropic", "gemini"):
        await ada.store_key(provider)
    yield await a_tool(ada, "chat")


def asks(text: str) -> Any:
    return [{"role": "user", "content": text}]


async def ledger(owner: Person) -> dict[str, int]:
    """Entries by provider."""
    answer = await owner.client.get("/billing/usage/records")
    counted: dict[str, int] = {}
    for row in answer.json()["data"]:
        counted[row["provider"]] = counted.get(row["provider"], 0) + 1
    return counted


async def test_one_sdk_speaks_to_every_vendor_and_each_call_is_billed_once(
    ada: Person, tool: Tool
) -> None:
    async with tool.openai as client:
        for model in MODELS.values():
            answer = await client.chat.completions.create(model=model, messages=asks("one two"))
            assert answer.choices[0].message.content == "You said: one two"
            async with client.chat.completions.stream(
                model=model, messages=asks("lookup a word"), tools=[TOOL], tool_choice="required"
            ) as stream:
                called = await stream.get_final_completion()
            assert called.choices[0].message.tool_calls
            response = await client.responses.create(model=model, input="three")
            assert response.output_text == "You said: three"
            shown = await client.models.retrieve(model.partition("/")[2])
            assert f"{shown.owned_by}/{shown.id}" == model
            # The gateway takes no escaped slash, which is how the SDK would write this name.
            named = await ada.client.get(f"/v1/models/{model}")
            assert named.json()["id"] == shown.id

    def in_plain_functions() -> str:
        with openai.OpenAI(base_url=f"{ada.suite.url}/v1", api_key=tool.token) as client:
            stream = client.chat.completions.create(
                model="default", messages=asks("in plain functions"), stream=True
            )
            return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)

    assert await asyncio.to_thread(in_plain_functions) == "You said: in plain functions"
    expected = {"openai": 4, "anthropic": 3, "gemini": 3}
    assert await eventually(lambda: ledger(ada), lambda seen: seen == expected) == expected


async def test_errors_are_raised_by_kind(ada: Person, tool: Tool) -> None:
    async with tool.openai as client:
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="nobody", messages=asks("hi"))
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="default", messages=[])
        kinds: dict[str, type[openai.APIStatusError]] = {
            "bad_request": openai.BadRequestError,
            "server_error": openai.InternalServerError,
            "quota": openai.RateLimitError,
        }
        for fault, kind in kinds.items():
            with pytest.raises(kind):
                await client.chat.completions.create(
                    model="default", messages=asks(f"[[sim:fault={fault}]]")
                )
    async with openai.AsyncOpenAI(
        base_url=f"{ada.suite.url}/v1", api_key="ttc_" + "x" * 40, max_retries=0
    ) as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(model="default", messages=asks("hi"))
