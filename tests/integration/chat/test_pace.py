"""A tier's turns that begin one after the other, at every door and on real engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prometheus_client import REGISTRY

from services.chat.app import create_app
from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.support.devices import a_device
from tests.support.tokens import serving

WAITS = 60
# Turns a second. At the first nobody waits, as nobody's turn comes within a minute; at the second
# one may, for fifty seconds.
SELDOM, SLOWLY, SOON = 0.001, 0.02, 2.0


@dataclass
class Paced:
    """A replica that lets the free tier begin one turn."""

    url: str

    @property
    def waiting(self) -> float:
        return _told("companion_chat_turns_waiting")

    @property
    def turned_away(self) -> float:
        return _told("companion_chat_turns_turned_away_total")

    async def until_waiting(self, number: int) -> None:
        async with asyncio.timeout(20):
            while self.waiting != number:
                await asyncio.sleep(0.02)


def _told(name: str) -> float:
    return REGISTRY.get_sample_value(name, {"tier": "free"}) or 0


@pytest.fixture
async def paced(chat: ChatSuite, request: pytest.FixtureRequest) -> AsyncIterator[Paced]:
    rate = getattr(request, "param", SELDOM)
    slow = chat.settings.model_copy(
        update={"turns_per_second": f"free={rate}", "turns_wait_seconds": WAITS}
    )
    process = create_app(slow)
    async with process.lifespan(), serving(process.public) as url:
        yield Paced(url)


CALL = {"messages": [{"role": "user", "content": "hello"}]}


def at_each_door(user: ChatUser) -> list[Coroutine[Any, Any, httpx.Response]]:
    """A paid call by each door that free has, without the socket."""
    v1 = {**CALL, "model": "openai/gpt-6-luna"}
    return [
        user.ask("hello"),
        user.ask("hello", stream=True),
        # What it names is not looked for before its turn has come.
        user.client.post(
            f"/chat/sessions/{user.session_id}/messages/{uuid4()}/regenerate", json={}
        ),
        user.client.post("/v1/chat/completions", json=v1),
        user.client.post("/v1/chat/completions", json={**v1, "stream": True}),
        user.client.post("/openai/v1/chat/completions", json={**CALL, "model": "gpt-6-luna"}),
    ]


async def test_without_room_to_wait_every_door_says_when_to_come_again(
    chat: ChatSuite, paced: Paced
) -> None:
    """At this pace nobody's turn comes within a minute."""
    async with chat.user() as early, chat.user() as ada, chat.user(tier="pro") as grace:
        for user in (early, ada, grace):
            user.client.base_url = paced.url
        assert (await early.ask("hello")).status_code == 200
        before = paced.turned_away
        answers = [await asking for asking in at_each_door(ada)]
        for answer in answers:
            assert answer.status_code == 503, (answer.url, answer.text)
            assert "tier_busy" in answer.text, answer.url
            assert int(answer.headers["retry-after"]) >= 1, answer.url
        token = ada.client.headers["authorization"].removeprefix("Bearer ")
        async with a_device(paced.url, token) as device:
            await device.say("send", session_id=ada.session_id, content="hello", ref="one")
            assert (await device.until("error"))["data"]["code"] == "tier_busy"
        assert paced.turned_away - before == len(answers) + 1
        assert await chat.holds(ada.id) == []
        assert [a.status_code for a in [await grace.ask("hello") for _ in range(3)]] == [200] * 3
        # Where there is no pace they have all their tier grants: nothing was counted.
        ada.client.base_url = chat.url
        limits = (await ada.ask("hello")).headers["ratelimit"]
        assert '"openai.requests_per_minute";r=4' in limits, limits


@pytest.mark.parametrize("paced", [SLOWLY], indirect=True)
async def test_who_leaves_while_they_wait_has_asked_nothing(chat: ChatSuite, paced: Paced) -> None:
    async with chat.user() as early, chat.user() as ada:
        early.client.base_url = ada.client.base_url = paced.url
        assert (await early.ask("hello")).status_code == 200
        for leaving in at_each_door(ada):
            asking = asyncio.create_task(leaving)
            await paced.until_waiting(1)
            asking.cancel()
            await paced.until_waiting(0)
        token = ada.client.headers["authorization"].removeprefix("Bearer ")
        async with a_device(paced.url, token) as device:
            await device.say("send", session_id=ada.session_id, content="hello", ref="one")
            await paced.until_waiting(1)
            await device.say("ping", ref="two")
        await paced.until_waiting(0)
        assert await chat.holds(ada.id) == []


@pytest.mark.parametrize("paced", [SOON], indirect=True)
async def test_whose_turn_comes_is_answered_and_so_is_what_a_device_said_meanwhile(
    chat: ChatSuite, paced: Paced
) -> None:
    async with chat.user() as early, chat.user() as ada, chat.user() as bob:
        for user in (early, ada, bob):
            user.client.base_url = paced.url
        token = ada.client.headers["authorization"].removeprefix("Bearer ")
        async with a_device(paced.url, token) as device:
            first = asyncio.create_task(early.ask("hello"))
            await device.say("send", session_id=ada.session_id, content="hello", ref="one")
            await device.say("ping", ref="two")
            later = asyncio.create_task(bob.ask("hello"))
            await device.until("sent", ref="one")
            await device.until("pong", ref="two")
            assert [(await answer).status_code for answer in (first, later)] == [200, 200]
        assert len(await chat.holds(ada.id)) == 1
