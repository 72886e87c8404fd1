"""The doors that stand in for one vendor: bytes, limits and settlement, whatever it does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.chat.domain.known_key import RevokedKey
from services.chat.wiring import wire
from shared.ids import UserId
from shared.scopes import VOICE
from shared.tiers import TIERS
from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.integration.chat.test_turns import eventually

Json = dict[str, Any]
TIMES = ("created", "created_at", "id", "responseId")


@dataclass(frozen=True, slots=True)
class Interface:
    """One vendor's interface as a plain client sees it."""

    name: str
    provider: str
    model: str
    path: str
    stream_path: str
    prompt: Callable[[str], Json]
    text_of: Callable[[Json], str]
    delta_of: Callable[[Json], str]
    error_of: Callable[[Json], Json]

    def body(self, text: str, *, stream: bool = False, **more: Any) -> Json:
        body = {**self.prompt(text), **more}
        if self.provider != "gemini":
            body = {"model": self.model, **body, **({"stream": True} if stream else {})}
        return body

    async def call(
        self, user: ChatUser, text: str, *, stream: bool = False, **more: Any
    ) -> httpx.Response:
        headers = more.pop("headers", {})
        return await user.client.post(
            self.stream_path if stream else self.path,
            json=self.body(text, stream=stream, **more),
            headers=headers,
        )

    def said(self, answer: httpx.Response) -> str:
        return "".join(map(self.delta_of, documents(answer.text)))


def documents(text: str) -> list[Json]:
    """What the `data:` lines of a stream hold."""
    lines = [line.strip("\r") for line in text.split("\n")]
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def _openai_text(body: Json) -> str:
    return str(body["choices"][0]["message"]["content"])


def _openai_delta(chunk: Json) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk.get("choices", ()))


def _gemini_text(body: Json) -> str:
    found = [c.get("content", {}).get("parts", ()) for c in body.get("candidates", ())]
    return "".join(part.get("text", "") for parts in found for part in parts)


CHAT = Interface(
    name="chat",
    provider="openai",
    model="gpt-6-luna",
    path="/openai/v1/chat/completions",
    stream_path="/openai/v1/chat/completions",
    prompt=lambda text: {"messages": [{"role": "user", "content": text}]},
    text_of=_openai_text,
    delta_of=_openai_delta,
    error_of=lambda body: dict(body["error"]),
)
RESPONSES = Interface(
    name="responses",
    provider="openai",
    model="gpt-6-luna",
    path="/openai/v1/responses",
    stream_path="/openai/v1/responses",
    prompt=lambda text: {"input": text},
    text_of=lambda body: str(body["output"][-1]["content"][0]["text"]),
    delta_of=lambda e: e["delta"] if e.get("type") == "response.output_text.delta" else "",
    error_of=lambda body: dict(body["error"]),
)
MESSAGES = Interface(
    name="messages",
    provider="anthropic",
    model="claude-sonnet-5-5",
    path="/anthropic/v1/messages",
    stream_path="/anthropic/v1/messages",
    prompt=lambda text: {"messages": [{"role": "user", "content": text}], "max_tokens": 500},
    text_of=lambda body: str(body["content"][-1]["text"]),
    delta_of=lambda e: e["delta"].get("text", "") if e["type"] == "content_block_delta" else "",
    error_of=lambda body: {**body["error"], "code": body["error"]["details"]["error_code"]},
)
GEMINI = Interface(
    name="gemini",
    provider="gemini",
    model="gemini-3.8-flash",
    path="/gemini/v1/models/gemini-3.8-flash:generateContent",
    stream_path="/gemini/v1/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
    prompt=lambda text: {"contents": [{"role": "user", "parts": [{"text": text}]}]},
    text_of=_gemini_text,
    delta_of=_gemini_text,
    error_of=lambda body: {
        **body["error"],
        "code": body["error"]["details"][0]["metadata"]["code"],
    },
)
INTERFACES = (CHAT, RESPONSES, MESSAGES, GEMINI)
every = pytest.mark.parametrize("door", INTERFACES, ids=lambda door: door.name)


VENDORS_OWN = ("request-id", "openai-version", "openai-processing-ms")
LIMITS_OF_VENDORS = ("x-ratelimit-", "anthropic-ratelimit-")


def limit_names(answer: httpx.Response) -> list[str]:
    """The windows that its header tells of."""
    return [window.partition(";")[0] for window in answer.headers["ratelimit"].split(", ")]


@pytest.fixture
async def room_in_the_minute() -> None:
    """With the next one its counters begin anew."""
    left = 60 - time.time() % 60
    if left < 5:
        await asyncio.sleep(left)


async def used(chat: ChatSuite, user: ChatUser, provider: str) -> Mapping[str, int]:
    """The user's counters in the limits."""
    limits = (await user.client.get("/chat/limits")).json()["data"]
    return {
        row["name"].rpartition(".")[2]: row["used"] for row in limits if provider in row["name"]
    }


async def settled(chat: ChatSuite, user: ChatUser) -> Json:
    (hold,) = await eventually(
        lambda: chat.holds(user.id), lambda holds: bool(holds) and holds[-1]["state"] == "settled"
    )
    return dict(hold)


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
        assert "".join(map(_gemini_text, answer.json())) == "You said: one two"
        broken = await user.client.post(path, json=GEMINI.body("[[sim:stream_error,at=1]] a b c d"))
        assert broken.json()[-1]["error"]["status"] == "INTERNAL"


REFUSALS = [
    (CHAT, "rate_limit", 429, "vendor_rate_limited"),
    (CHAT, "quota", 429, "vendor_quota_exhausted"),
    (CHAT, "invalid_key", 403, "no_usable_key"),
    (CHAT, "server_error", 500, "vendor_overloaded"),
    (CHAT, "overloaded", 503, "vendor_overloaded"),
    (RESPONSES, "context_length", 400, "prompt_too_long"),
    (MESSAGES, "rate_limit", 429, "vendor_rate_limited"),
    (MESSAGES, "overloaded", 529, "vendor_overloaded"),
    (MESSAGES, "quota", 402, "vendor_quota_exhausted"),
    (MESSAGES, "permission", 403, "no_usable_key"),
    (GEMINI, "rate_limit", 429, "vendor_rate_limited"),
    (GEMINI, "invalid_key", 403, "no_usable_key"),
    (GEMINI, "bad_request", 400, "vendor_rejected_request"),
    (GEMINI, "unavailable", 503, "vendor_overloaded"),
]


@pytest.mark.parametrize(
    ("door", "fault", "status", "code"), REFUSALS, ids=[f"{d.name}-{f}" for d, f, *_ in REFUSALS]
)
@pytest.mark.usefixtures("room_in_the_minute")
async def test_a_refusal_has_the_vendors_status_and_our_words(
    chat: ChatSuite, door: Interface, fault: str, status: int, code: str
) -> None:
    key = f"sk-marked-{uuid4().hex}"
    async with chat.user(tier="enterprise", key=key) as user:
        for stream in (False, True):
            chat.simulator.add_fault(fault, vendor=door.provider, key=key)
            answer = await door.call(user, "hello", stream=stream)
            assert answer.status_code == status, answer.text
            error = door.error_of(answer.json())
            assert "sim-" not in answer.text
            assert error["message"]
            # OpenAI's own codes are known words; the others' stand beside ours.
            assert door.provider == "openai" or error["code"] == code
        assert {h["outcome"] for h in await chat.holds(user.id)} == {"refused"}
        assert await chat.usage_events(user.id) == []
        assert (await used(chat, user, door.provider))["requests_per_minute"] == 0


async def test_what_sdks_read_of_a_refusal_is_kept(chat: ChatSuite) -> None:
    key = f"sk-marked-{uuid4().hex}"
    async with chat.user(tier="enterprise", key=key) as user:
        chat.simulator.add_fault("rate_limit", vendor="openai", key=key, retry_after=7)
        answer = await CHAT.call(user, "hello")
        assert answer.headers["retry-after"] == "7"
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        chat.simulator.add_fault("quota", vendor="openai", key=key)
        answer = await CHAT.call(user, "hello")
        assert answer.headers["x-should-retry"] == "false"
        assert answer.json()["error"]["code"] == "insufficient_quota"
        chat.simulator.add_fault("rate_limit", vendor="gemini", key=key)
        details = (await GEMINI.call(user, "hello")).json()["error"]["details"]
        assert [row["retryDelay"] for row in details if "retryDelay" in row] == ["31s"]
        answer = await CHAT.call(user, "hello", temperature=0.3)
        assert answer.json()["error"]["param"] == "temperature"


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


@pytest.mark.parametrize("kind", ["cut", "stream_error"])
async def test_a_response_that_breaks_ends_in_a_numbered_event(chat: ChatSuite, kind: str) -> None:
    async with chat.user(tier="enterprise") as user:
        answer = await RESPONSES.call(user, f"[[sim:{kind},at=3]] one two three", stream=True)
        numbers = [event["sequence_number"] for event in documents(answer.text)]
        assert numbers == list(range(len(numbers)))
        assert documents(answer.text)[-1]["type"] == "error"


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


BREAKS = [(d, kind) for d in INTERFACES for kind in ("cut", "reset", "truncate", "stream_error")]
# Silence takes its time, and is the same for all.
BREAKS += [(CHAT, "stall"), (RESPONSES, "stream_error_flat"), (RESPONSES, "stream_failed")]
BREAKS += [(GEMINI, "stream_error_bare")]


@pytest.mark.parametrize(("door", "kind"), BREAKS, ids=[f"{d.name}-{kind}" for d, kind in BREAKS])
@pytest.mark.usefixtures("room_in_the_minute")
async def test_a_stream_that_breaks_ends_in_the_vendors_form_of_an_error(
    chat: ChatSuite, door: Interface, kind: str
) -> None:
    async with chat.user(tier="enterprise") as user:
        answer = await door.call(user, f"[[sim:{kind},at=3]] one two three four five", stream=True)
        assert answer.status_code == 200, answer.text
        error = door.error_of(documents(answer.text)[-1])
        assert error["code"] == "vendor_failed", answer.text
        assert "did not finish" in error["message"]
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["outcome"] == "provider_failed"
        assert event["data"]["source"] == "estimated"
        assert event["data"]["output_tokens"] > 0
        assert (await settled(chat, user))["outcome"] == "provider_failed"
        assert (await used(chat, user, door.provider))["requests_per_minute"] == 1


@every
@pytest.mark.parametrize("kind", ["cut", "reset"])
@pytest.mark.usefixtures("room_in_the_minute")
async def test_a_whole_answer_that_is_cut_is_a_502_and_charged_to_nobodys_limits(
    chat: ChatSuite, door: Interface, kind: str
) -> None:
    async with chat.user(tier="enterprise") as user:
        answer = await door.call(user, f"[[sim:{kind}]] one two three")
        assert answer.status_code == 502, answer.text
        assert f'"{door.provider}.requests_per_minute";r=' in answer.headers["ratelimit"]
        refused = await door.call(user, "[[sim:fault=rate_limit]]")
        assert refused.status_code == 429
        assert f'"{door.provider}.requests_per_minute";r=' in refused.headers["ratelimit"]
        assert door.error_of(answer.json())["code"] == "vendor_failed"
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["outcome"] == "provider_failed"
        assert (await used(chat, user, door.provider))["requests_per_minute"] == 0


@every
async def test_a_connection_that_is_reset_at_once_is_a_502_and_may_be_charged(
    chat: ChatSuite, door: Interface
) -> None:
    async with chat.user(tier="enterprise") as user:
        answer = await door.call(user, "[[sim:connection_reset]] hello", stream=True)
        assert answer.status_code == 502, answer.text
        assert (await settled(chat, user))["outcome"] == "provider_failed"
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["source"] == "estimated"


async def test_a_call_that_never_reached_the_vendor_is_made_once_more(chat: ChatSuite) -> None:
    async with chat.user(tier="enterprise") as user:
        chat.egress.out_of_reach[user.id] = 1
        answer = await CHAT.call(user, "hello")
        assert answer.status_code == 200, answer.text
        assert len(await chat.usage_events(user.id)) == 1


@every
async def test_a_client_that_goes_away_ends_the_call(chat: ChatSuite, door: Interface) -> None:
    async with chat.user(tier="enterprise") as user:
        body = door.body("[[sim:chunks=40,delay_ms=25]] x", stream=True)
        async with user.client.stream("POST", door.stream_path, json=body) as answer:
            seen = 0
            async for piece in answer.aiter_bytes():
                seen += len(piece)
                if seen > 1500:
                    break
        hold = await settled(chat, user)
        assert hold["outcome"] == "client_gone"
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["outcome"] == "client_gone"
        served = chat.simulator.served()
        (row,) = [r for r in served if r["response_id"] == hold["provider_request_id"]]
        # Gemini goes on when it is left, and charges; so what it says is read for its usage.
        drained = door is GEMINI
        assert (row["chunks"] == 40) == drained
        assert event["data"]["source"] == ("provider" if drained else "estimated")


async def test_a_whole_call_ends_when_its_client_goes_away(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        with pytest.raises(httpx.ReadTimeout):
            await user.client.post(
                CHAT.path, json=CHAT.body("[[sim:first_ms=3000]] hello"), timeout=0.3
            )
        assert (await settled(chat, user))["outcome"] == "client_gone"


@every
async def test_a_revoked_key_ends_its_streams(chat: ChatSuite, door: Interface) -> None:
    async with chat.user(tier="enterprise") as user:
        body = door.body("[[sim:chunks=100,delay_ms=50]] x", stream=True)
        async with user.client.stream("POST", door.stream_path, json=body) as answer:
            pieces = answer.aiter_text()
            text = await anext(pieces)
            async with wire(chat.settings) as worker:
                (hold,) = await chat.holds(user.id)
                revoked = RevokedKey(UserId(user.id), door.provider, 1, hold["created_at"])
                await worker.actions.forget_keys([revoked])
            async for piece in pieces:
                text += piece
        assert door.error_of(documents(text)[-1])["code"] == "answer_ended"
        assert (await settled(chat, user))["outcome"] == "stopped"


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


async def test_odd_addresses_and_queries_are_answered_in_the_vendors_shape(
    chat: ChatSuite,
) -> None:
    async with chat.user(tier="pro") as user:
        for odd in ("nothing", "1" * 300, "%F0%9F%92%A9", "%C3%28", "'--", "%00"):
            for path in (
                f"/openai/v1/models/{odd}",
                f"/anthropic/v1/models/{odd}",
                f"/anthropic/v1/models?limit={odd}",
                f"/anthropic/{odd}",
                f"/gemini/{odd}/models",
                f"/gemini/v1/models/{odd}",
            ):
                answer = await user.client.get(path)
                assert answer.status_code in (400, 404), (path, answer.text)
                assert answer.json()["error"]["message"], path
            posted = await user.client.post(
                f"/gemini/v1/models/{odd}:streamGenerateContent?alt={odd}", json={"contents": []}
            )
            assert posted.status_code in (400, 404), posted.text
            assert posted.json()["error"]["message"]
        long = (await user.client.get(f"/openai/v1/models/{'x' * 201}")).json()["error"]
        assert (long["code"], long["param"]) == ("bad_parameter", "model")
        assert "xxx" not in long["message"]
        keyed = await user.client.post(GEMINI.path + "?key=abc", json=GEMINI.body("hi"))
        assert (keyed.status_code, GEMINI.error_of(keyed.json())["code"]) == (400, "bad_parameter")


async def test_a_body_that_is_too_large_is_a_413_of_the_vendors(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        answer = await user.client.post(MESSAGES.path, content=b" " * ((20 << 20) + 1))
        assert answer.status_code == 413, answer.text
        assert answer.json()["error"]["type"] == "request_too_large"


async def test_what_no_tier_can_carry_is_refused_before_it_is_charged(chat: ChatSuite) -> None:
    async with chat.user() as user:
        answer = await CHAT.call(user, "word " * 20_000)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "question_too_long")
        assert await chat.holds(user.id) == []


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


async def test_what_is_not_offered_is_said_in_the_vendors_shape(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        for path, door in (
            ("/openai/v1/embeddings", CHAT),
            ("/openai/v1/files/x/content", CHAT),
            ("/anthropic/v1/messages/batches", MESSAGES),
            ("/anthropic/v2/messages", MESSAGES),
            ("/gemini/v1/models/m:embedContent", GEMINI),
            ("/gemini/v2/models/m:generateContent", GEMINI),
            ("/gemini/upload/v1/files", GEMINI),
        ):
            answer = await user.client.post(path, json={})
            assert answer.status_code == 404, path
            assert door.error_of(answer.json())["code"] == "call_not_offered", path
        answer = await user.client.delete(CHAT.path)
        assert answer.json()["error"]["code"] == "call_not_offered"
        for path, tells in (
            ("/gemini/models/m:generateContent", True),
            ("/gemini/v2/models", True),
            ("/gemini/v1/models/m:embedContent", False),
        ):
            told = (await user.client.get(path)).json()["error"]["message"]
            assert ("begin with /gemini/v1beta" in told) is tells, path


@every
async def test_a_body_that_is_none_is_a_400_of_the_vendors(
    chat: ChatSuite, door: Interface
) -> None:
    async with chat.user(tier="pro") as user:
        for body in (b"", b"[]", b"{", b'{"a":' * 2000, b'"\\ud800"', b"\xff\xfe{}", b"null"):
            answer = await user.client.post(door.path, content=body)
            assert answer.status_code == 400, (body[:20], answer.text)
            assert door.error_of(answer.json())["message"]
        assert await chat.holds(user.id) == []


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
