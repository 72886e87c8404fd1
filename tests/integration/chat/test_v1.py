"""OpenAI's interfaces over all vendors, as OpenAI's own SDK reads them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionToolParam
from pydantic import BaseModel

from tests.integration.chat.conftest import ChatSuite
from tests.support.suite import eventually

MODELS = ("openai/gpt-6-luna", "anthropic/claude-sonnet-5-5", "gemini/gemini-3.8-flash")
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(60)).decode()
LOOKUP: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Looks a word up.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string"}},
            "required": ["word"],
            "additionalProperties": False,
        },
    },
}


@asynccontextmanager
async def sdk(
    chat: ChatSuite, *, tier: str = "enterprise", key: str = "sim-key"
) -> AsyncIterator[tuple[openai.AsyncOpenAI, UUID]]:
    user_id = uuid4()
    for provider in ("openai", "anthropic", "gemini"):
        chat.egress.keys[(user_id, provider)] = key
    async with openai.AsyncOpenAI(
        base_url=f"{chat.url}/v1", api_key=chat.mint.token(user_id, tier=tier), max_retries=0
    ) as client:
        yield client, user_id


def asks(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("model", MODELS)
async def test_an_answer_of_any_vendor_is_a_chat_completion(chat: ChatSuite, model: str) -> None:
    async with sdk(chat) as (client, user_id):
        answer = await client.chat.completions.create(
            model=model, messages=asks("one two three"), max_completion_tokens=50
        )
    (choice,) = answer.choices
    assert choice.message.content == "You said: one two three"
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5
    (event,) = await chat.usage_events(user_id)
    assert event["data"]["provider"] == model.partition("/")[0]
    assert event["data"]["output_tokens"] == answer.usage.completion_tokens
    assert event["data"]["outcome"] == "done"
    (hold,) = await chat.holds(user_id)
    assert (hold["surface"], hold["session_id"]) == ("v1", None)


@pytest.mark.parametrize("model", MODELS)
async def test_a_stream_of_any_vendor_is_made_of_chunks(chat: ChatSuite, model: str) -> None:
    async with sdk(chat) as (client, _user_id):
        stream = await client.chat.completions.create(
            model=model,
            messages=asks("[[sim:chunks=8]] hello there"),
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.startswith("You said: hello there")
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


@pytest.mark.parametrize("model", MODELS)
async def test_a_tool_is_called_and_its_result_is_heard(chat: ChatSuite, model: str) -> None:
    async with sdk(chat) as (client, _user_id):
        asked: Any = asks("look up the word heron")
        async with client.chat.completions.stream(
            model=model, messages=asked, tools=[LOOKUP], tool_choice="required"
        ) as stream:
            first = await stream.get_final_completion()
        (choice,) = first.choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        (call,) = choice.message.tool_calls
        assert call.function.name == "lookup"
        assert "heron" in call.function.arguments
        asked += [
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {
                            "name": call.function.name,
                            "arguments": call.function.arguments,
                        },
                    }
                ],
            },
            {"role": "tool", "tool_call_id": call.id, "content": "a bird"},
        ]
        second = await client.chat.completions.create(model=model, messages=asked, tools=[LOOKUP])
    assert second.choices[0].message.content == "The tool said: a bird"


@pytest.mark.parametrize("model", MODELS)
async def test_an_image_reaches_the_vendor(chat: ChatSuite, model: str) -> None:
    async with sdk(chat) as (client, _user_id):
        content: Any = [
            {"type": "text", "text": "what is this"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        ]
        answer = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": content}]
        )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens >= 85


@pytest.mark.parametrize("model", MODELS)
async def test_an_answer_follows_a_schema(chat: ChatSuite, model: str) -> None:
    class Bird(BaseModel):
        name: str
        legs: int

    async with sdk(chat) as (client, _user_id):
        answer = await client.chat.completions.parse(
            model=model, messages=asks("a heron"), response_format=Bird
        )
    assert isinstance(answer.choices[0].message.parsed, Bird)


@pytest.mark.parametrize("model", MODELS)
async def test_the_responses_interface_speaks_for_any_vendor(chat: ChatSuite, model: str) -> None:
    async with sdk(chat) as (client, _user_id):
        answer = await client.responses.create(
            model=model, input="one two", instructions="Be brief."
        )
        assert answer.output_text == "You said: one two"
        assert answer.status == "completed"
        assert answer.to_dict()["store"] is False
        stream = await client.responses.create(model=model, input="three four", stream=True)
        events = [event async for event in stream]
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == "You said: three four"  # type: ignore[union-attr]


@pytest.mark.parametrize("model", MODELS)
async def test_a_tool_is_called_through_the_responses_interface(
    chat: ChatSuite, model: str
) -> None:
    tool: Any = {"type": "function", **LOOKUP["function"]}
    async with sdk(chat) as (client, _user_id):
        items: Any = [{"role": "user", "content": "look up heron"}]
        async with client.responses.stream(
            model=model, input=items, tools=[tool], tool_choice="required"
        ) as stream:
            first = await stream.get_final_response()
        (call,) = [item for item in first.output if item.type == "function_call"]
        assert call.name == "lookup"
        items += [item.model_dump(exclude={"parsed_arguments"}) for item in first.output]
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": "a bird"})
        second = await client.responses.create(model=model, input=items, tools=[tool])
    assert second.output_text == "The tool said: a bird"


async def test_names_of_models_lead_to_their_vendor(chat: ChatSuite) -> None:
    async with sdk(chat) as (client, user_id):
        for name in (
            *("default", "openai.small", "gpt-4", "claude-3-opus", "gemini-pro"),
            *("openai/default", "anthropic/default", "gemini/default"),
        ):
            await client.chat.completions.create(model=name, messages=asks("hi"))
    providers = [event["data"]["provider"] for event in await chat.usage_events(user_id)]
    vendors = ["openai", "anthropic", "gemini"]
    assert providers == ["openai", "openai", *vendors, *vendors]


async def test_an_unknown_model_is_not_found(chat: ChatSuite) -> None:
    async with sdk(chat) as (client, user_id):
        with pytest.raises(openai.NotFoundError) as raised:
            await client.chat.completions.create(model="nobody-1", messages=asks("hi"))
        assert raised.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError) as raised:
            await client.responses.create(model="anthropic/nobody-1", input="hi")
        assert raised.value.code == "model_not_found"
        assert await chat.holds(user_id) == []


async def test_what_the_tier_lacks_is_told_and_not_to_be_tried_again(chat: ChatSuite) -> None:
    async with sdk(chat, tier="free") as (client, user_id):
        for request in (
            {"model": "anthropic/claude-opus-5-5", "messages": asks("hi")},
            {"model": "default", "messages": asks("hi"), "tools": [LOOKUP]},
        ):
            with pytest.raises(openai.APIStatusError) as raised:
                await client.chat.completions.create(**request)
            assert raised.value.status_code == 402
            assert raised.value.response.headers["x-should-retry"] == "false"
        assert await chat.holds(user_id) == []


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_vendor_refuses_is_an_error_by_status(chat: ChatSuite, stream: bool) -> None:
    async with sdk(chat) as (client, user_id):
        with pytest.raises(openai.APIStatusError) as raised:
            await client.chat.completions.create(
                model="default", messages=asks("[[sim:fault=bad_request]]"), stream=stream
            )
        assert raised.value.status_code == 400
        assert raised.value.code == "vendor_rejected_request"
        headers = raised.value.response.headers
        assert '"openai.requests_per_minute";r=' in headers["ratelimit"]
        assert int(headers["x-ratelimit-limit-requests"]) == 100
        assert await chat.usage_events(user_id) == []


async def test_an_error_after_the_first_words_is_an_error_in_the_stream(chat: ChatSuite) -> None:
    async with sdk(chat) as (client, user_id):
        stream = await client.chat.completions.create(
            model="default",
            messages=asks("[[sim:chunks=6,cut,at=3]] some words to begin with"),
            stream=True,
        )
        words = []
        with pytest.raises(openai.APIError):
            async for chunk in stream:
                words += [choice.delta.content or "" for choice in chunk.choices]
        assert "".join(words)
        (event,) = await chat.usage_events(user_id)
        assert event["data"]["outcome"] == "provider_failed"


async def test_a_client_that_leaves_ends_its_call(chat: ChatSuite) -> None:
    async with sdk(chat) as (client, user_id):
        stream = await client.chat.completions.create(
            model="default",
            messages=asks("[[sim:chunks=50,delay_ms=100]] a long answer"),
            stream=True,
        )
        await anext(aiter(stream))
        await stream.close()

        (event,) = await eventually(lambda: chat.usage_events(user_id), bool)
    assert event["data"]["outcome"] == "client_gone"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeated_request_is_answered_from_the_store(chat: ChatSuite, stream: bool) -> None:
    async with sdk(chat) as (client, user_id):
        texts, told = [], []
        for _ in range(2):
            raw = await client.chat.completions.with_raw_response.create(
                model="default",
                messages=asks("once only"),
                stream=stream,
                extra_headers={"Idempotency-Key": "order-66"},
            )
            texts.append(await _text_of(raw.parse(), stream=stream))
            told.append(raw.headers)
        assert raw.headers["idempotency-replayed"] == "true"
        for name in ("ratelimit-policy", "x-ratelimit-limit-requests"):
            assert told[1][name] == told[0][name]
        assert len(await chat.usage_events(user_id)) == 1
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(
                model="default",
                messages=asks("something else"),
                extra_headers={"Idempotency-Key": "order-66"},
            )
    assert texts == ["You said: once only"] * 2


async def _text_of(answer: Any, *, stream: bool) -> str:
    if stream:
        return "".join([c.choices[0].delta.content or "" async for c in answer])
    return str(answer.choices[0].message.content)


async def test_limits_are_told_in_the_headers_that_sdks_read(chat: ChatSuite) -> None:
    async with sdk(chat, tier="pro") as (client, _user_id):
        raw = await client.chat.completions.with_raw_response.create(
            model="default", messages=asks("hi")
        )
    assert raw.headers["x-ratelimit-limit-requests"] == "20"
    assert raw.headers["x-ratelimit-remaining-requests"] == "19"
    assert int(raw.headers["x-ratelimit-limit-tokens"]) > 0
    assert raw.headers["x-companion-provider"] == "openai"


FILE = {"type": "file"}
MISNAMED = {"name": "no spaces"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": [{"role": "pope", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "file"}]}]},
        "messages[0].content[0].type",
    ),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"n": 2}, "n"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"logprobs": True}, "logprobs"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"stream": "yes"}, "stream"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    (
        {"tools": [{"type": "function", "function": MISNAMED}]},
        "tools[0].function.name",
    ),
    ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"model": 7}, "model"),
    ({"model": ""}, "model"),
]


@pytest.mark.parametrize(("parts", "param"), BAD)
async def test_a_bad_request_names_its_field(
    chat: ChatSuite, parts: dict[str, Any], param: str
) -> None:
    headers = chat.mint.headers(uuid4(), tier="enterprise")
    body = {"model": "default", "messages": asks("hi"), **parts}
    async with httpx.AsyncClient(base_url=chat.url, headers=headers, trust_env=False) as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe"])
async def test_a_body_that_is_no_object_is_refused(chat: ChatSuite, body: bytes) -> None:
    headers = chat.mint.headers(uuid4())
    async with httpx.AsyncClient(base_url=chat.url, headers=headers, trust_env=False) as client:
        for path in ("/v1/chat/completions", "/v1/responses"):
            answer = await client.post(path, content=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unreadable_body")


async def test_without_a_token_nobody_is_let_in(chat: ChatSuite) -> None:
    async with httpx.AsyncClient(base_url=chat.url, trust_env=False) as client:
        answer = await client.post("/v1/chat/completions", json={})
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


async def test_a_burst_of_calls_is_settled_to_the_last(chat: ChatSuite) -> None:
    async with sdk(chat) as (client, user_id):
        create = client.chat.completions.create
        await asyncio.gather(*(create(model="default", messages=asks("hi")) for _ in range(20)))
        assert len(await chat.usage_events(user_id)) == 20
