"""An answer that is over is forgotten at once, not when the garbage collector comes by: that is
seldom, so that it costs little, and until then a circle would keep every word of the answer."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from services.chat.domain.running_turn import RunningTurn
from tests.integration.chat.conftest import ChatSuite, ChatUser

TURNS = 8
# Whoever answered the last ones may still hold them for a moment.
HELD = 3


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def turns_in_memory() -> int:
    return sum(type(found) is RunningTurn for found in gc.get_objects())


async def ask(chat: ChatSuite, user: ChatUser, way: str) -> None:
    prompt = "[[sim:chunks=8]] hello"
    if way.startswith("v1"):
        messages = [{"role": "user", "content": prompt}]
        body = {"model": "openai/gpt-6-luna", "messages": messages, "stream": way == "v1-sse"}
        answer = await user.client.post("/v1/chat/completions", json=body)
    else:
        answer = await user.ask(prompt, stream=True)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("way", ["sse", "v1-json", "v1-sse"])
async def test_nothing_of_an_answer_stays(
    chat: ChatSuite, way: str, without_collector: None
) -> None:
    async with chat.user(tier="enterprise") as user:
        before = turns_in_memory()
        for _ in range(TURNS):
            await ask(chat, user, way)
        for _ in range(60):  # until its log is written
            if turns_in_memory() <= before + HELD:
                break
            await asyncio.sleep(0.05)
        assert turns_in_memory() <= before + HELD
