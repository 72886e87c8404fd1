"""The doors that stand in for one vendor: bytes, tiers, limits and repeated keys."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from shared.scopes import VOICE
from shared.tiers import TIERS
from tests.integration.chat.conftest import ChatSuite
from tests.integration.chat.dropins import (
    CHAT,
    GEMINI,
    MESSAGES,
    RESPONSES,
    Interface,
    Json,
    documents,
    every,
    used,
)
from tests.support.waiting import eventually

VENDORS_OWN = ("request-id", "openai-version", "openai-processing-ms")


LIMITS_OF_VENDORS = ("x-ratelimit-", "anthropic-ratelimit-")


def limit_names(answer: httpx.Response) -> list[str]:
    """The windows that its header tells of."""
    return [window.partition(";")[0] for window in answer.headers["ratelimit"].split(", ")]


@every
async def test_a_whole_answer_is_the_vendors_and_is_billed(
    chat: ChatSuite, door: Interface
) -> None:
    async with chat.user(tier="enterprise") as user:
        answer = await door.call(user, "what is a tooltip?")
        assert answer.status_code == 200, answer.text
        assert door.text_of(answer.json()) == "You said: what is a tooltip?"
        assert f'"{door.provider}.requests_per_minute";r=99' in answer.headers["ratelimit"]
        (event,) = await chat.usage_events(user.id)
        assert (event["data"]["source"], event["data"]["outcome"]) == ("provider", "done")
        assert event["data"]["input_tokens"] > 0
        assert event["data"]["model"] == door.model
        (hold,) = await chat.holds(user.id)
        assert (hold["outcome"], hold["surface"]) == ("done", door.provider)
        assert hold["session_id"] is None


@pytest.mark.usefixtures("room_in_the_minute")
async def test_claude_may_only_write_its_cache(chat: ChatSuite) -> None:
    async with chat.user(tier="enterprise") as user:
        answer = await MESSAGES.call(user, "what is a tooltip?", max_tokens=0)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["content"], answer.json()["stop_reason"]) == ([], "max_tokens")
        (event,) = await chat.usage_events(user.id)
        assert (event["data"]["source"], event["data"]["outcome"]) == ("provider", "done")
        assert event["data"]["input_tokens"] > 0
        assert event["data"]["output_tokens"] == 0
        assert (await used(chat, user, "anthropic"))["requests_per_minute"] == 0


@every
async def test_a_stream_is_the_vendors_byte_by_byte(chat: ChatSuite, door: Interface) -> None:
    async with chat.user(tier="enterprise") as user:
        more = {"stream_options": {"include_usage": True}} if door is CHAT else {}
        answer = await door.call(user, "[[sim:odd,split]] naïve 漢字 🙂 words", stream=True, **more)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert door.said(answer) == "You said: naïve 漢字 🙂 words"
        assert ": " in answer.text or door is GEMINI
        (event,) = await chat.usage_events(user.id)
        assert (event["data"]["source"], event["data"]["outcome"]) == ("provider", "done")


async def test_usage_that_was_not_asked_for_is_billed_and_not_shown(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        plain = await CHAT.call(user, "hello there", stream=True)
        assert all(chunk["choices"] for chunk in documents(plain.text))
        assert plain.text.endswith("data: [DONE]\n\n")
        asked = await CHAT.call(
            user, "hello there", stream=True, stream_options={"include_usage": True}
        )
        assert documents(asked.text)[-1]["usage"]["prompt_tokens"] > 0
        events = await chat.usage_events(user.id)
        assert [event["data"]["source"] for event in events] == ["provider"] * 2


async def test_without_events_gemini_streams_one_array(chat: ChatSuite) -> None:
    path = GEMINI.stream_path.partition("?")[0]
    async with chat.user(tier="pro") as user:
        answer = await user.client.post(path, json=GEMINI.body("one two"))
        assert answer.headers["content-type"].startswith("application/json")
        assert "".join(map(GEMINI.text_of, answer.json())) == "You said: one two"
        broken = await user.client.post(path, json=GEMINI.body("[[sim:stream_error,at=1]] a b c d"))
        assert broken.json()[-1]["error"]["status"] == "INTERNAL"


async def test_reasoning_can_be_sent_back_though_nothing_is_kept(chat: ChatSuite) -> None:
    async with chat.user(tier="enterprise") as user:
        question = {"role": "user", "content": "[[sim:reasoning=5]] why?"}
        answer = await RESPONSES.call(user, "", input=[question])
        thought, said = answer.json()["output"]
        assert thought["encrypted_content"], answer.text
        again: list[Json] = [question, thought, said, {"role": "user", "content": "Go on."}]
        answer = await RESPONSES.call(user, "", input=again)
        assert answer.status_code == 200, answer.text
        del again[1]["encrypted_content"]
        for named in (thought, {"type": "item_reference", "id": said["id"]}):
            for path in (RESPONSES.path, "/v1/responses"):
                if named is thought and path == "/v1/responses":
                    continue
                body = {"model": "gpt-6-luna", "input": [question, named]}
                refused = await user.client.post(path, json=body)
                error = refused.json()["error"]
                assert (refused.status_code, error["code"]) == (400, "item_not_kept")
                assert (error["param"], "store: false" in error["message"]) == ("input[1]", True)


async def test_anthropics_sdk_finds_an_id_in_every_answer(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        counting = {"model": "claude-3-sonnet", "messages": [{"role": "user", "content": "hi"}]}
        for answer in (
            await user.client.get("/anthropic/v1/models"),
            await user.client.get("/anthropic/v1/models/nothing"),
            await user.client.post("/anthropic/v1/messages/count_tokens", json=counting),
            await user.client.post("/anthropic/v1/messages", json={}),
            await MESSAGES.call(user, "hello", model="claude-fable-5-2"),
        ):
            assert answer.headers["request-id"] == answer.headers["x-request-id"], answer.text
        answer = await MESSAGES.call(user, "hello")
        assert answer.headers["request-id"] != answer.headers["x-request-id"]


@every
@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeated_key_gets_the_stored_answer(
    chat: ChatSuite, door: Interface, stream: bool
) -> None:
    async with chat.user(tier="enterprise") as user:
        headers = {"idempotency-key": "k"}
        first = await door.call(user, "hello", stream=stream, headers=headers)
        again = await door.call(user, "hello", stream=stream, headers=headers)
        other = await door.call(user, "other", stream=stream, headers=headers)
        assert (first.status_code, again.status_code) == (200, 200)
        assert again.content == first.content
        assert again.headers["content-type"] == first.headers["content-type"]
        assert again.headers["idempotency-replayed"] == "true"
        assert "idempotency-replayed" not in first.headers
        assert limit_names(again) == limit_names(first)
        for name in ("ratelimit-policy", *VENDORS_OWN):
            assert again.headers.get(name) == first.headers.get(name)
        own = [name for name in first.headers if name.startswith(LIMITS_OF_VENDORS)]
        assert all(name in again.headers for name in own)
        assert bool(own) is (door is not GEMINI)
        assert (other.status_code, door.error_of(other.json())["code"]) == (
            400,
            "idempotency_key_reused",
        )
        assert len(await chat.usage_events(user.id)) == 1


async def test_an_answer_too_large_to_be_kept_is_not_paid_twice(chat: ChatSuite) -> None:
    async with chat.user(tier="enterprise") as user:
        headers = {"idempotency-key": "k"}
        words = "[[sim:chunks=6000]] x"
        first = await CHAT.call(user, words, stream=True, headers=headers)
        assert len(first.content) > 1 << 20
        again = await CHAT.call(user, words, stream=True, headers=headers)
        assert (again.status_code, again.json()["error"]["code"]) == (409, "answer_not_kept")
        assert again.headers["x-should-retry"] == "false"
        assert len(await chat.usage_events(user.id)) == 1


async def test_what_failed_may_be_asked_again_with_its_key(chat: ChatSuite) -> None:
    async with chat.user(tier="enterprise") as user:
        headers = {"idempotency-key": "k"}
        words = "[[sim:cut,at=2]] a b c d"
        for _ in range(2):
            answer = await MESSAGES.call(user, words, stream=True, headers=headers)
            assert "vendor_failed" in answer.text
        assert len(await chat.usage_events(user.id)) == 2


@every
async def test_what_the_tier_does_not_grant_is_forbidden(chat: ChatSuite, door: Interface) -> None:
    async with chat.user(tier="free") as user:
        frontier = {"openai": "gpt-6-astra", "anthropic": "claude-opus-5-5"}
        if door is GEMINI:
            answer = await user.client.post(door.path, json=door.body("hello"))
        else:
            answer = await door.call(user, "hello", model=frontier[door.provider])
        assert answer.status_code == 403, answer.text
        assert "tier" in door.error_of(answer.json())["message"]
        assert answer.headers["x-should-retry"] == "false"
    async with chat.user(tier="enterprise") as user:
        path = door.path.replace("gemini-3.8-flash", "no-such-model")
        body = door.body("hello") | ({} if door is GEMINI else {"model": "no-such-model"})
        answer = await user.client.post(path, json=body)
        assert (answer.status_code, door.error_of(answer.json())["code"]) == (
            404,
            "model_not_found",
        )


@pytest.mark.parametrize("asks", [{"thinking": {"type": "adaptive"}}, {"effort": "high"}])
async def test_claude_thinks_for_whom_it_is_sold_to(chat: ChatSuite, asks: dict[str, Any]) -> None:
    fields = {"output_config": asks} if "effort" in asks else asks
    async with chat.user(tier="pro") as user:
        answer = await MESSAGES.call(user, "hello", **fields)
        assert answer.status_code == 403, answer.text
        error = MESSAGES.error_of(answer.json())
        assert (error["code"], error["details"]["feature"], error["details"]["upgrade_tier"]) == (
            "feature_not_in_tier",
            "advanced_reasoning",
            "enterprise",
        )
        # At OpenAI thinking is a part of the model.
        assert (await CHAT.call(user, "hello", reasoning_effort="low")).status_code == 200
        assert len(await chat.holds(user.id)) == 1
    async with chat.user(tier="enterprise") as user:
        assert (await MESSAGES.call(user, "hello", **fields)).status_code == 200


async def test_tools_of_an_input_item_need_their_tier(chat: ChatSuite) -> None:
    tool = {"type": "function", "name": "look", "parameters": {"type": "object"}}
    said = {"role": "user", "content": "hello"}
    items = [said, {"type": "additional_tools", "role": "developer", "tools": [tool]}]
    async with chat.user(tier="free") as user:
        answer = await RESPONSES.call(user, "", input=items)
        assert answer.status_code == 403, answer.text
        assert RESPONSES.error_of(answer.json())["feature"] == "function_calling"
        tool["type"] = "web_search"
        answer = await RESPONSES.call(user, "", input=items)
        error = RESPONSES.error_of(answer.json())
        assert (answer.status_code, error["code"], error["param"]) == (
            400,
            "tool_not_offered",
            "input[1].tools[0]",
        )
        assert await chat.holds(user.id) == []


async def test_a_limit_of_ours_is_told_in_the_vendors_shape(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        most = TIERS["pro"].concurrent_streams
        busy = asyncio.gather(*(CHAT.call(user, "[[sim:first_ms=15000]] x") for _ in range(most)))
        await eventually(lambda: chat.holds(user.id), lambda holds: len(holds) == most)
        chat_refused, messages_refused, gemini_refused = await asyncio.gather(
            *(door.call(user, "hello") for door in (CHAT, MESSAGES, GEMINI))
        )
        for door, refused in (
            (CHAT, chat_refused),
            (MESSAGES, messages_refused),
            (GEMINI, gemini_refused),
        ):
            assert refused.status_code == 429, refused.text
            assert door.error_of(refused.json())["code"] == "limit_reached"
            assert int(refused.headers["retry-after"]) > 0
        assert chat_refused.json()["error"]["type"] == "rate_limit_error"
        assert chat_refused.json()["error"]["upgrade_tier"] == "enterprise"
        assert chat_refused.headers["x-ratelimit-limit-requests"] == "20"
        assert messages_refused.json()["error"]["details"]["upgrade_tier"] == "enterprise"
        assert messages_refused.headers["anthropic-ratelimit-requests-limit"] == "20"
        assert gemini_refused.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
        assert gemini_refused.json()["error"]["details"][1]["retryDelay"].endswith("s")
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        await eventually(
            lambda: chat.holds(user.id),
            lambda holds: {h["outcome"] for h in holds} == {"client_gone"},
        )


async def test_free_calls_use_nothing(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        counted = await user.client.post(
            "/anthropic/v1/messages/count_tokens",
            json={"model": "claude-3-sonnet", "messages": [{"role": "user", "content": "hi"}]},
        )
        assert counted.json()["input_tokens"] > 0, counted.text
        counted = await user.client.post(
            "/gemini/v1beta/models/gemini-pro:countTokens", json=GEMINI.body("hi there")
        )
        assert counted.json()["totalTokens"] > 0, counted.text
        refused = await user.client.post(
            "/anthropic/v1/messages/count_tokens", json={"model": "claude-opus-5-5"}
        )
        assert refused.status_code == 403
        assert await chat.holds(user.id) == []
        assert await chat.usage_events(user.id) == []


@every
async def test_the_token_comes_where_the_sdk_puts_a_key(chat: ChatSuite, door: Interface) -> None:
    header = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}
    async with chat.user(tier="pro") as user:
        token = chat.mint.token(user.id, tier="pro")
        bearer = f"Bearer {token}" if door.provider == "openai" else token
        async with httpx.AsyncClient(base_url=chat.url, trust_env=False) as client:
            name = header[door.provider]
            found = await client.post(door.path, json=door.body("hi"), headers={name: bearer})
            assert found.status_code == 200, found.text
            none = await client.post(door.path, json=door.body("hi"))
            two = await client.post(
                door.path,
                json=door.body("hi"),
                headers={name: bearer, "authorization": "Bearer another"},
            )
            blank = await client.post(
                door.path,
                json=door.body("hi"),
                headers={name: "", "authorization": f"Bearer {token}"},
            )
            assert blank.status_code == 200, blank.text
            assert none.status_code == 401
            assert door.provider == "openai" or two.status_code == 401
            wrong = chat.mint.token(user.id, tier="pro", scope=VOICE)
            headers = {"authorization": f"Bearer {wrong}"}
            scoped = await client.post(door.path, json=door.body("hi"), headers=headers)
            assert (scoped.status_code, door.error_of(scoped.json())["code"]) == (
                403,
                "scope_missing",
            )
        names = {n.lower() for n, _ in chat.simulator.last_headers(door.provider)["headers"]}
        assert not {n for n in names if n.startswith(("x-companion", "x-request"))}
