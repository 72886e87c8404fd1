"""What those doors refuse, in their vendor's words: its own refusals, bad bodies, odd addresses."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.integration.chat.conftest import ChatSuite
from tests.integration.chat.dropins import (
    CHAT,
    GEMINI,
    MESSAGES,
    RESPONSES,
    Interface,
    every,
    used,
)

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
