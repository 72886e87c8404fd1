"""New calls of unpaid tiers wait while the relay does not tell what was used; others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import REGISTRY

from services.chat import wiring
from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.integration.chat.test_openai_models import told_of
from tests.support.chat_replicas import another_replica
from tests.support.devices import a_device
from tests.support.outbox import relay_all

CODE = "usage_backlog"


@pytest.fixture
async def impatient(chat: ChatSuite, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A replica that bears a backlog of a second, before an outbox that is empty."""
    monkeypatch.setattr(wiring, "LOOK_SECONDS", 0.05)
    relay_all("chat", chat.settings.database_url.get_secret_value())
    settings = chat.settings.model_copy(update={"shed_after_seconds": 1})
    async with another_replica(settings) as (url, _):
        yield url


def is_shed() -> bool:
    labels = {"service": "chat", "tier": "free"}
    return REGISTRY.get_sample_value("companion_tier_shed", labels) == 1


def refused() -> float:
    labels = {"service": "chat", "tier": "free"}
    return REGISTRY.get_sample_value("companion_requests_shed_total", labels) or 0


async def until(shed: bool) -> None:
    async with asyncio.timeout(10):
        while is_shed() is not shed:
            await asyncio.sleep(0.02)


async def until_shed(user: ChatUser) -> None:
    """A turn is settled, and no relay runs."""
    assert (await user.ask("hello")).status_code == 200
    await until(True)


async def at_each_door(user: ChatUser) -> dict[str, httpx.Response]:
    """A paid call by each door that free has, without the socket."""
    asks, client = [{"role": "user", "content": "hello"}], user.client
    chat = {"model": "gpt-6-luna", "messages": asks}
    response = {"model": "gpt-6-luna", "input": "hello", "stream": True}
    return {
        "session": await user.ask("hello"),
        "stream": await user.ask("hello", stream=True),
        "v1": await client.post(
            "/v1/chat/completions", json={**chat, "model": "openai/gpt-6-luna"}
        ),
        "openai": await client.post("/openai/v1/chat/completions", json=chat),
        "responses": await client.post("/openai/v1/responses", json=response),
    }


async def test_unpaid_use_waits_at_each_door_until_the_relay_has_caught_up(
    chat: ChatSuite, impatient: str
) -> None:
    async with chat.user() as ada, chat.user(tier="pro") as grace:
        ada.client.base_url = grace.client.base_url = impatient
        await until_shed(ada)
        before = refused()
        answers = await at_each_door(ada)
        for door, answer in answers.items():
            assert answer.status_code == 503, (door, answer.text)
            assert CODE in answer.text, door
            assert int(answer.headers["retry-after"]) == 30, door
        assert refused() - before == len(answers)
        token = ada.client.headers["authorization"].removeprefix("Bearer ")
        async with a_device(impatient, token) as device:
            await device.say("send", session_id=ada.session_id, content="hello", ref="one")
            assert (await device.until("error"))["data"]["code"] == CODE
        assert (await grace.ask("hello")).status_code == 200
        assert len(await chat.holds(ada.id)) == 1
        assert len(await chat.usage_events(ada.id)) == 1

        relay_all("chat", chat.settings.database_url.get_secret_value())
        await until(False)
        assert (await ada.ask("hello")).status_code == 200


async def test_who_has_paid_a_moment_ago_goes_on(chat: ChatSuite, impatient: str) -> None:
    async with chat.user() as ada:
        ada.client.base_url = impatient
        await until_shed(ada)
        await told_of(chat, ada.id, "pro")
        assert (await ada.ask("hello")).status_code == 200


async def test_what_was_answered_is_told_again(chat: ChatSuite, impatient: str) -> None:
    async with chat.user() as ada:
        ada.client.base_url = impatient
        headers = {"Idempotency-Key": "once"}
        first = await ada.ask("hello", headers=headers)
        await until(True)
        again = await ada.ask("hello", headers=headers)
        assert (again.status_code, again.json()["message"]["content"]) == (
            first.status_code,
            first.json()["message"]["content"],
        )


async def test_another_tiers_backlog_is_no_reason(chat: ChatSuite, impatient: str) -> None:
    async with chat.user() as ada, chat.user(tier="pro") as grace:
        ada.client.base_url = grace.client.base_url = impatient
        assert (await grace.ask("hello")).status_code == 200
        await asyncio.sleep(1.5)
        assert not is_shed()
        assert (await ada.ask("hello")).status_code == 200
