"""What the interface over all vendors keeps between calls, and how its calls end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import openai
import pytest

from services.chat.app import create_app
from services.chat.domain.content import Role, Thought, ToolCall, Utterance
from services.chat.storage.kept_thoughts import ValkeyThoughts
from shared.ids import UserId
from shared.news.revocations import ValkeyRevocations
from shared.revocation import Revocation
from shared.valkey import open_cache, open_listener
from tests.integration.chat.conftest import ChatSuite
from tests.integration.chat.test_openai_models import know_key
from tests.integration.chat.test_own_server import settings_with_server
from tests.integration.chat.test_v1 import LOOKUP, asks, sdk
from tests.support.suite import eventually
from tests.support.tokens import serving

THOUGHTFUL = ("anthropic/claude-sonnet-5-5", "gemini/gemini-3.8-flash")


def called(message: Any) -> Any:
    """An assistant's message as clients send it back: with what OpenAI's wire has a place for."""
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.function.name, "arguments": call.function.arguments},
        }
        for call in message.tool_calls
    ]
    return {"role": "assistant", "content": message.content, "tool_calls": calls}


async def brought_back(chat: ChatSuite, model: str) -> list[int]:
    served = chat.simulator.served(vendor=model.partition("/")[0])
    return [call["brought_back"] for call in served[-2:]]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", THOUGHTFUL)
async def test_thoughts_go_back_to_their_vendor_with_the_tools_result(
    chat: ChatSuite, model: str, stream: bool
) -> None:
    async with sdk(chat) as (client, _user_id):
        messages = asks("[[sim:reasoning=5,tool]] look up heron")
        if stream:
            async with client.chat.completions.stream(
                model=model, messages=messages, tools=[LOOKUP]
            ) as events:
                first: Any = await events.get_final_completion()
        else:
            first = await client.chat.completions.create(
                model=model, messages=messages, tools=[LOOKUP]
            )
        message = first.choices[0].message
        (call,) = message.tool_calls
        messages += [
            called(message),
            {"role": "tool", "tool_call_id": call.id, "content": "a bird"},
        ]
        second = await client.chat.completions.create(
            model=model, messages=messages, tools=[LOOKUP]
        )
    assert second.choices[0].message.content == "The tool said: a bird"
    assert await brought_back(chat, model) == [0, 1]


async def test_thoughts_of_another_user_stay_theirs(chat: ChatSuite) -> None:
    model = THOUGHTFUL[1]
    async with sdk(chat) as (client, _), sdk(chat) as (stranger, _):
        messages = asks("[[sim:tool]] look up heron")
        first = await client.chat.completions.create(model=model, messages=messages, tools=[LOOKUP])
        message: Any = first.choices[0].message
        result: Any = {
            "role": "tool",
            "tool_call_id": message.tool_calls[0].id,
            "content": "a bird",
        }
        await stranger.chat.completions.create(
            model=model, messages=[*messages, called(message), result], tools=[LOOKUP]
        )
    assert await brought_back(chat, model) == [0, 0]


async def test_a_memory_that_is_away_costs_nothing_but_itself() -> None:
    user_id, call = UserId(uuid4()), ToolCall("call-1", "lookup", "{}", signature="s")
    said = [Utterance(Role.ASSISTANT, "", tool_calls=[ToolCall("call-1", "lookup", "{}")])]
    async with open_cache("redis://127.0.0.1:1") as nobody:
        thoughts = ValkeyThoughts(nobody)
        await thoughts.keep(user_id, [call], [])
        assert await thoughts.restored(user_id, said) == said


async def test_what_is_kept_is_what_was_given_and_not_for_ever(chat: ChatSuite) -> None:
    user_id = UserId(uuid4())
    calls = [ToolCall("a", "lookup", "{}", signature="s"), ToolCall("b", "lookup", "{}")]
    thought = Thought("anthropic", {"type": "thinking", "thinking": "hm", "signature": "x"})
    bare = [ToolCall(call.id, call.name, call.arguments) for call in calls]
    said = [Utterance(Role.USER, "hi"), Utterance(Role.ASSISTANT, "", tool_calls=bare)]
    async with open_cache(chat.settings.cache_url.get_secret_value()) as cache:
        thoughts = ValkeyThoughts(cache)
        await thoughts.keep(user_id, calls, [thought])
        _, back = await thoughts.restored(user_id, said)
        assert list(back.tool_calls) == calls
        assert list(back.thoughts) == [thought]
        keys = [key async for key in cache.scan_iter(match=f"thoughts:*{user_id}*")]
        assert len(keys) == 2
        assert all([0 < await cache.ttl(key) <= 3600 for key in keys])
        # What is larger than anything that vendors send is not kept.
        other = UserId(uuid4())
        await thoughts.keep(other, [ToolCall("c", "lookup", "{}", signature="s" * 300_000)], [])
        assert [key async for key in cache.scan_iter(match=f"thoughts:*{other}*")] == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_a_prompt_that_can_not_fit_is_refused_in_openais_words(
    chat: ChatSuite, path: str
) -> None:
    long = "word " * 16_100
    body = {"model": "default", "messages": asks(long), "input": long}
    user_id = uuid4()
    chat.egress.keys[(user_id, "openai")] = "sim-key"
    async with httpx.AsyncClient(
        base_url=chat.url, headers=chat.mint.headers(user_id, tier="free"), trust_env=False
    ) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert await chat.holds(user_id) == []


async def test_what_the_vendor_says_of_its_own_limits_reaches_the_sdks_backoff(
    chat: ChatSuite,
) -> None:
    async with sdk(chat) as (client, user_id):
        create = client.chat.completions.create
        for fault, kind, final in (
            ("rate_limit,retry_after=40", openai.RateLimitError, None),
            ("quota", openai.RateLimitError, "false"),
        ):
            with pytest.raises(kind) as raised:
                await create(model="default", messages=asks(f"[[sim:fault={fault}]]"))
            assert raised.value.response.headers.get("x-should-retry") == final
        assert await chat.usage_events(user_id) == []
    async with sdk(chat, key="sim-invalid") as (client, _):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.chat.completions.create(model="default", messages=asks("hi"))
        assert refused.value.code == "no_usable_key"
        assert refused.value.response.headers["x-should-retry"] == "false"


async def test_a_wait_of_the_vendor_is_told(chat: ChatSuite) -> None:
    async with sdk(chat) as (client, _):
        with pytest.raises(openai.RateLimitError) as raised:
            await client.chat.completions.create(
                model="default", messages=asks("[[sim:fault=rate_limit,retry_after=40]]")
            )
    assert raised.value.response.headers["retry-after"] == "40"
    assert raised.value.code == "vendor_rate_limited"


@pytest.mark.parametrize("stream", [False, True])
async def test_another_provider_is_named_in_the_head(chat: ChatSuite, stream: bool) -> None:
    async with sdk(chat) as (client, user_id):
        await know_key(chat, user_id, "gemini")
        async with httpx.AsyncClient(
            base_url=chat.url,
            headers=chat.mint.headers(user_id, tier="enterprise"),
            trust_env=False,
        ) as plain:
            wished = await plain.put("/chat/preferences", json={"fallback": ["gemini"]})
            assert wished.status_code == 200, wished.text
        chat.egress.keys[(user_id, "openai")] = "sim-noquota"
        raw = await client.chat.completions.with_raw_response.create(
            model="openai/gpt-6-luna", messages=asks("hi"), stream=stream
        )
        assert raw.status_code == 200
        assert raw.headers["x-companion-provider"] == "gemini"
        assert raw.headers["x-companion-fallback-from"] == "openai"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_repeated_while_it_runs(chat: ChatSuite, stream: bool) -> None:
    async with sdk(chat) as (client, user_id):
        key = {"Idempotency-Key": f"run-{uuid4()}"}
        request: dict[str, Any] = {
            "model": "default",
            "messages": asks("[[sim:first_ms=300]] once"),
            "stream": stream,
            "extra_headers": key,
        }
        asked = await asyncio.gather(
            *(client.chat.completions.with_raw_response.create(**request) for _ in range(4)),
            return_exceptions=True,
        )
        conflicts = [one for one in asked if isinstance(one, openai.ConflictError)]
        assert [one.code for one in conflicts] == ["request_in_progress"] * 3
        # With patience, as the SDK has it by itself, it gets the one answer.
        patient = client.with_options(max_retries=5)
        again = await patient.chat.completions.with_raw_response.create(**request)
        assert again.headers["idempotency-replayed"] == "true"
        assert len(await chat.holds(user_id)) == 1


async def test_after_a_refusal_the_key_is_free_again(chat: ChatSuite) -> None:
    async with sdk(chat, key="") as (client, user_id):
        chat.egress.keys[(user_id, "openai")] = "sim-noquota"
        request: dict[str, Any] = {
            "model": "default",
            "messages": asks("once"),
            "extra_headers": {"Idempotency-Key": "order-67"},
        }
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(**request)
        chat.egress.keys[(user_id, "openai")] = "sim-key"
        answer = await client.chat.completions.create(**request)
        assert answer.choices[0].message.content == "You said: once"
        assert len(await chat.usage_events(user_id)) == 1


async def test_the_same_key_and_body_at_another_path_is_another_request(chat: ChatSuite) -> None:
    async with sdk(chat) as (_, user_id):
        headers = chat.mint.headers(user_id, tier="enterprise") | {"idempotency-key": "order-68"}
        body = {"model": "openai/gpt-6-luna", "messages": asks("hi"), "input": "hi"}
        async with httpx.AsyncClient(base_url=chat.url, headers=headers, trust_env=False) as client:
            first = await client.post("/v1/chat/completions", json=body)
            assert first.status_code == 200, first.text
            for path in ("/v1/responses", "/openai/v1/chat/completions"):
                other = await client.post(path, json=body | {"model": "gpt-6-luna"})
                assert other.status_code == 400, other.text


@pytest.mark.parametrize("key", ["", "with space", "x" * 201])
async def test_a_key_that_can_be_none_is_refused(chat: ChatSuite, key: str) -> None:
    headers = chat.mint.headers(uuid4()) | {"idempotency-key": key}
    async with httpx.AsyncClient(base_url=chat.url, headers=headers, trust_env=False) as client:
        answer = await client.post(
            "/v1/chat/completions", json={"model": "default", "messages": asks("hi")}
        )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


async def test_a_client_that_leaves_before_a_whole_answer_ends_its_call(chat: ChatSuite) -> None:
    async with sdk(chat) as (client, user_id):
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=0.3).chat.completions.create(
                model="default", messages=asks("[[sim:first_ms=3000]] a slow answer")
            )

        async def settled() -> list[dict[str, Any]]:
            return [hold for hold in await chat.holds(user_id) if hold["state"] == "settled"]

        (hold,) = await eventually(settled, bool)
    assert hold["outcome"] == "client_gone"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_withdrawn_key_ends_its_calls_with_an_error(chat: ChatSuite, stream: bool) -> None:
    async with sdk(chat) as (client, user_id):
        running = await _begun(chat, client, user_id, stream=stream)
        url = chat.settings.cache_url.get_secret_value()
        async with open_cache(url) as cache, aclosing(open_listener(url)) as listener:
            revocations = ValkeyRevocations("chat", cache, listener)
            await revocations.announce(
                [Revocation(UserId(user_id), "openai", datetime.now(UTC) + timedelta(seconds=1))]
            )
        with pytest.raises(openai.APIError) as raised:
            await asyncio.wait_for(running, 5)
        assert raised.value.code == "answer_ended"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_replica_that_goes_down_tells_its_clients(chat: ChatSuite, stream: bool) -> None:
    process = create_app(chat.settings)
    user_id = uuid4()
    chat.egress.keys[(user_id, "openai")] = "sim-key"
    async with (
        serving(process.public) as url,
        openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key=chat.mint.token(user_id), max_retries=0
        ) as client,
    ):
        # The server still holds its connections when its turns are ended.
        async with process.lifespan():
            running = await _begun(chat, client, user_id, stream=stream)
        with pytest.raises(openai.APIError) as raised:
            await asyncio.wait_for(running, 5)
    assert raised.value.code == "answer_ended"
    (hold,) = await chat.holds(user_id)
    assert (hold["state"], hold["outcome"]) == ("settled", "stopped")


async def _begun(
    chat: ChatSuite, client: openai.AsyncOpenAI, user_id: UUID, *, stream: bool
) -> asyncio.Task[str]:
    """A long call, in the middle of its answer."""
    running = asyncio.create_task(_whole_text(client, stream=stream))
    await eventually(lambda: chat.holds(user_id), bool)
    await asyncio.sleep(0.3)
    return running


async def _whole_text(client: openai.AsyncOpenAI, *, stream: bool) -> str:
    answer: Any = await client.chat.completions.create(
        model="default",
        # A whole answer comes after its first byte at once.
        messages=asks(f"[[sim:first_ms={0 if stream else 3000},chunks=50,delay_ms=100]] hi"),
        stream=stream,
    )
    if not stream:
        return str(answer.choices[0].message.content)
    return "".join([c.choices[0].delta.content or "" async for c in answer])


@pytest.mark.parametrize(
    "name", ["gpt-6-luna", "openai/gpt-6-luna", "openai.small", "gpt-3.5-turbo"]
)
async def test_a_model_is_shown_by_any_name_that_a_call_may_use(chat: ChatSuite, name: str) -> None:
    async with sdk(chat) as (client, user_id):
        await know_key(chat, user_id, "openai")
        assert (await client.models.retrieve(name)).id == "gpt-6-luna"
        assert (await client.models.retrieve("default")).owned_by == "openai"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("anthropic/claude-sonnet-5-5")


async def test_models_of_the_operators_own_server_are_listed_and_answer(chat: ChatSuite) -> None:
    process = create_app(settings_with_server(chat))
    async with (
        process.lifespan(),
        serving(process.public) as url,
        openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key=chat.mint.token(uuid4()), max_retries=0
        ) as client,
    ):
        listed = {m.id: m.owned_by for m in (await client.models.list()).data}
        assert listed == {"gpt-4o": "compatible", "meta/llama": "compatible"}
        for name in ("meta/llama", "compatible/meta/llama"):
            assert (await client.models.retrieve(name)).id == "meta/llama"
        answer = await client.chat.completions.create(
            model="compatible/gpt-4o", messages=asks("hi")
        )
        assert answer.choices[0].message.content == "You said: hi"


CLAUDE = "claude-sonnet-5-5"
KEYED_CALLS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": f"anthropic/{CLAUDE}", "messages": asks("hi")},
    "/v1/responses": {"model": f"anthropic/{CLAUDE}", "input": "hi"},
    "/anthropic/v1/messages": {"model": CLAUDE, "max_tokens": 9, "messages": asks("hi")},
    "{session}/messages": {"provider": "anthropic", "content": "hi"},
}


@pytest.mark.parametrize("path", KEYED_CALLS)
async def test_an_answer_is_told_again_also_by_a_tier_that_would_not_give_it(
    chat: ChatSuite, path: str
) -> None:
    """It was paid for, and a program that repeats its request knows nothing of a tier."""
    async with chat.user(tier="pro") as user:
        place = path.replace("{session}", f"/chat/sessions/{user.session_id}")
        body, key = KEYED_CALLS[path], {"idempotency-key": "order-70"}
        first = await user.client.post(place, json=body, headers=key)
        assert first.status_code == 200, first.text
        free = chat.mint.headers(user.id, tier="free")
        again = await user.client.post(place, json=body, headers=free | key)
        assert again.status_code == 200, again.text
        assert again.headers["idempotency-replayed"] == "true"
        other = await user.client.post(place, json=body, headers=free)
        assert other.status_code in {402, 403}
        assert len(await chat.usage_events(user.id)) == 1
