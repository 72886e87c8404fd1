"""An operator's own server through chat's doors; OpenAI's simulator stands in for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import ValidationError

from services.chat.app import create_app
from services.chat.settings import Settings
from tests.integration.chat.conftest import ChatSuite
from tests.support.tokens import serving

MODELS = '{"*": ["gpt-4o", "meta/llama"], "pro": ["gpt-4o-mini"]}'


def settings_with_server(chat: ChatSuite, **parts: str) -> Settings:
    given = {"compatible_url": chat.simulator.openai, "compatible_models": MODELS, **parts}
    return chat.settings.model_copy(update=given)


@pytest.fixture(scope="module")
async def url(chat: ChatSuite) -> AsyncIterator[str]:
    """Where a chat is served whose operator has a server of their own."""
    process = create_app(settings_with_server(chat))
    async with process.lifespan(), serving(process.public) as served:
        yield served


@asynccontextmanager
async def a_user(
    chat: ChatSuite, url: str, tier: str = "free"
) -> AsyncIterator[tuple[httpx.AsyncClient, UUID]]:
    """Somebody who has stored no key."""
    user_id = uuid4()
    headers = chat.mint.headers(user_id, tier=tier)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=20, trust_env=False
    ) as client:
        yield client, user_id


async def ask(client: httpx.AsyncClient, content: str, **parts: object) -> httpx.Response:
    session = await client.post("/chat/sessions", json={"provider": "compatible"})
    assert session.status_code == 201, session.text
    path = f"/chat/sessions/{session.json()['id']}/messages"
    return await client.post(path, json={"content": content, **parts})


@pytest.mark.parametrize("stream", [False, True])
async def test_it_answers_whoever_has_no_key_and_its_price_is_unknown(
    chat: ChatSuite, url: str, stream: bool
) -> None:
    async with a_user(chat, url) as (client, user_id):
        answer = await ask(client, "hello there", stream=stream)
        assert answer.status_code == 200, answer.text
        (event,) = await chat.usage_events(user_id)
        assert (event["data"]["provider"], event["data"]["model"]) == ("compatible", "gpt-4o")
        assert event["data"]["input_tokens"] == 2
        (hold,) = await chat.holds(user_id)
        assert hold["provider"] == "compatible"
        if not stream:
            body = answer.json()
            assert body["message"]["content"] == "You said: hello there"
            # A model of that name has a price at OpenAI, but not here.
            assert body["cost_microusd"] is None


async def test_each_tier_has_its_models(chat: ChatSuite, url: str) -> None:
    for tier, models in (
        ("free", ["gpt-4o", "meta/llama"]),
        ("pro", ["gpt-4o-mini", "gpt-4o", "meta/llama"]),
    ):
        async with a_user(chat, url, tier) as (client, _):
            listed = (await client.get("/chat/models")).json()["data"]
            own = [model for model in listed if model["provider"] == "compatible"]
            assert [model["model"] for model in own] == models
            assert all(model["usable"] for model in own)
            openai = next(model for model in listed if model["provider"] == "openai")
            assert not openai["usable"]
            for name in ("max_output_tokens", "features"):
                assert {str(model[name]) for model in own} == {str(openai[name])}
            for_sdks = (await client.get("/v1/models")).json()["data"]
            assert {"gpt-4o", "meta/llama"} <= {model["id"] for model in for_sdks}


async def test_a_model_of_a_larger_tier_is_refused(chat: ChatSuite, url: str) -> None:
    async with a_user(chat, url) as (client, _):
        answer = await ask(client, "hi", model="gpt-4o-mini")
        assert (answer.status_code, answer.json()["code"]) == (402, "model_not_in_tier")
        answer = await ask(client, "hi", model="gpt-6-luna")
        assert (answer.status_code, answer.json()["code"]) == (402, "model_not_in_tier")


async def test_without_such_a_server_nobody_knows_of_it(chat: ChatSuite) -> None:
    async with chat.user(key="") as user:
        answer = await user.client.post("/chat/sessions", json={"provider": "compatible"})
        assert answer.json()["code"] == "unknown_chat_provider"
        answer = await user.ask("hi", provider="compatible")
        assert answer.json()["code"] == "unknown_chat_provider"
        listed = (await user.client.get("/chat/models")).json()["data"]
        assert "compatible" not in {model["provider"] for model in listed}


def test_a_server_without_models_stops_the_start(chat: ChatSuite) -> None:
    given = chat.settings.model_dump() | {"compatible_url": chat.simulator.openai}
    with pytest.raises(ValidationError, match="COMPATIBLE_MODELS"):
        Settings.model_validate(given)
    with pytest.raises(ValidationError, match="COMPATIBLE_MODELS: there are the tiers"):
        Settings.model_validate(given | {"compatible_models": '{"platinum": ["a"]}'})
