"""Retry, fallback and drains before the simulator, in the real storage."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from services.chat.domain.known_key import KnownKey
from services.chat.domain.preference import Preference
from services.chat.storage.unit_of_work import SqlWork
from shared.ids import UserId
from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.support.suite import eventually


async def falling_back(chat: ChatSuite, user: ChatUser, *providers: str) -> None:
    """The user wants these to answer instead, and chat has heard of their keys."""
    async with SqlWork(chat.database) as work:
        await work.preferences.save(UserId(user.id), Preference(providers))
        await work.known_keys.remember(
            [KnownKey(UserId(user.id), name, 1, "valid") for name in providers]
        )


def last_event(text: str) -> dict[str, Any]:
    """The data of a stream's last event."""
    lines = [line for line in text.split("\n") if line.startswith("data: ")]
    data: dict[str, Any] = json.loads(lines[-1][6:])
    return data


@pytest.mark.parametrize("fault", ["rate_limit", "overloaded", "server_error"])
async def test_trouble_that_passes_is_not_seen(chat: ChatSuite, fault: str) -> None:
    key = f"sim-{uuid4()}"
    async with chat.user(key=key) as user:
        chat.simulator.add_fault(fault, vendor="openai", key=key, retry_after_ms=10)
        answer = await user.ask("hello")
        assert answer.status_code == 200, answer.text
        assert answer.json()["message"]["content"] == "You said: hello"
        assert len(await chat.usage_events(user.id)) == 1
        # Two attempts are one request of the user's.
        assert '"openai.requests_per_minute";r=4' in answer.headers["ratelimit"]


async def test_a_wait_that_is_too_long_is_told(chat: ChatSuite) -> None:
    key = f"sim-{uuid4()}"
    async with chat.user(key=key) as user:
        chat.simulator.add_fault("rate_limit", vendor="openai", key=key, retry_after=77)
        answer = await user.ask("hello")
        assert answer.json()["code"] == "vendor_rate_limited"
        assert answer.headers["retry-after"] == "77"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["quota", "invalid_key", "overloaded", "connection_close", "cut"])
async def test_another_provider_answers_where_the_user_wants_that(
    chat: ChatSuite, fault: str, stream: bool
) -> None:
    key = f"sim-{uuid4()}"
    async with chat.user(tier="pro", key=key) as user:
        await falling_back(chat, user, "openai", "gemini")
        chat.simulator.add_fault(fault, vendor="openai", key=key, times=9, at=0)

        answer = await user.ask("hello", stream=stream)

        assert answer.status_code == 200, answer.text
        done = last_event(answer.text) if stream else answer.json()
        assert done["fallback_from"] == "openai"
        assert done["message"]["provider"] == "gemini"
        assert done["message"]["content"]
        (hold,) = await chat.holds(user.id)
        assert (hold["provider"], hold["fallback_from"]) == ("gemini", "openai")
        events = {e["data"]["provider"]: e["data"] for e in await chat.usage_events(user.id)}
        assert events["gemini"]["outcome"] == "done"
        # Whether it charges for what it had begun, nobody knows; nor whether it had.
        assert ("openai" in events) is (fault in {"cut", "connection_close"})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_vendor_that_was_not_reached_is_tried_again_and_charges_nothing(
    chat: ChatSuite, stream: bool
) -> None:
    async with chat.user() as user:
        chat.egress.out_of_reach[user.id] = 1
        answer = await user.ask("hello", stream=stream)
        assert answer.status_code == 200, answer.text
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["source"] == "provider"

        chat.egress.out_of_reach[user.id] = 9
        answer = await user.ask("hello")
        assert answer.json()["code"] == "vendor_failed"
        assert [h["outcome"] for h in await chat.holds(user.id)] == ["done", "refused"]
        assert len(await chat.usage_events(user.id)) == 1


@pytest.mark.parametrize("fault", ["connection_close", "connection_reset"])
async def test_a_vendor_that_hangs_up_may_charge_and_is_not_asked_again(
    chat: ChatSuite, fault: str
) -> None:
    key = f"sim-{uuid4()}"
    async with chat.user(key=key) as user:
        chat.simulator.add_fault(fault, vendor="openai", key=key)
        answer = await user.ask("hello")
        assert answer.json()["code"] == "vendor_failed"
        assert len([c for c in chat.egress.calls if c.grant.user_id == user.id]) == 1
        (event,) = await chat.usage_events(user.id)
        assert (event["data"]["outcome"], event["data"]["source"]) == (
            "provider_failed",
            "estimated",
        )


async def test_a_repeated_request_hears_who_answered(chat: ChatSuite) -> None:
    key = f"sim-{uuid4()}"
    async with chat.user(tier="pro", key=key) as user:
        await falling_back(chat, user, "gemini")
        chat.simulator.add_fault("quota", vendor="openai", key=key)
        headers = {"idempotency-key": "once"}
        first = await user.ask("hello", headers=headers)
        again = await user.ask("hello", headers=headers)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json()["fallback_from"] == first.json()["fallback_from"] == "openai"


async def test_a_call_whose_client_leaves_is_read_on_where_it_is_charged_all_the_same(
    chat: ChatSuite,
) -> None:
    async with chat.user(tier="pro") as user:
        body = {
            "model": "gemini/gemini-3.8-flash",
            "messages": [{"role": "user", "content": "[[sim:chunks=20,delay_ms=40]] on and on"}],
            "stream": True,
        }
        async with user.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if '"content"' in line:
                    break

        (hold,) = await eventually(
            lambda: chat.holds(user.id), lambda holds: holds[0]["state"] == "settled"
        )
        assert hold["outcome"] == "client_gone"
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["source"] == "provider"
        assert event["data"]["output_tokens"] > 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_the_doors_for_sdks_fall_back_too(chat: ChatSuite, path: str, stream: bool) -> None:
    key = f"sim-{uuid4()}"
    async with chat.user(tier="pro", key=key) as user:
        await falling_back(chat, user, "gemini")
        chat.simulator.add_fault("quota", vendor="openai", key=key)
        said = {"messages": [{"role": "user", "content": "hello"}], "input": "hello"}
        field = "messages" if path.endswith("completions") else "input"
        body = {"model": "default", "stream": stream, field: said[field]}
        answer = await user.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert "hello" in answer.text
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["provider"] == "gemini"
