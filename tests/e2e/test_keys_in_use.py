"""What becomes of answers under way when the key they run on goes, or their service is stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest

from tests.support.suite import Person, Suite

pytestmark = pytest.mark.e2e


async def withdraw(person: Person) -> httpx.Response:
    return await person.client.delete("/keys/openai")


async def replace(person: Person) -> httpx.Response:
    body = {"api_key": f"marked-key-{uuid4().hex}"}
    return await person.client.put("/keys/openai", json=body)


async def store_again(person: Person) -> httpx.Response:
    return await person.client.put("/keys/openai", json={"api_key": person.api_key})


@asynccontextmanager
async def a_long_answer(person: Person, chunks: int) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of an answer that has begun."""
    path = f"/chat/sessions/{person.session_id}/messages"
    body = {"content": f"[[sim:chunks={chunks},delay_ms=50]] on and on", "stream": True}
    async with person.client.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        async for line in lines:
            if line.startswith("event: delta"):
                break
        yield lines


@pytest.mark.parametrize("change", [withdraw, replace])
async def test_a_key_that_goes_takes_its_answers_along(
    ada: Person, change: Callable[[Person], Awaitable[httpx.Response]]
) -> None:
    async with a_long_answer(ada, chunks=400) as lines:
        began = time.monotonic()
        assert (await change(ada)).is_success
        async with asyncio.timeout(10):
            rest = [line async for line in lines]
        assert time.monotonic() - began < 5  # about 0.3 s on a quiet machine; all of it takes 20 s
    assert any(line.startswith(("event: done", "event: interrupted")) for line in rest)


async def test_the_same_key_sent_again_lets_them_run(ada: Person) -> None:
    async with a_long_answer(ada, chunks=30) as lines:
        assert (await store_again(ada)).is_success
        rest = [line async for line in lines]
    assert sum(line.startswith("event: delta") for line in rest) > 15
    assert any(line.startswith("event: done") for line in rest)


async def test_the_next_call_runs_on_the_new_key(suite: Suite, ada: Person) -> None:
    # At once: the news that the key before it is gone comes while the answer is under way.
    for _ in range(4):
        body = {"api_key": f"marked-key-{uuid4().hex}"}
        assert (await ada.client.put("/keys/openai", json=body)).is_success
        answer = await ada.ask("[[sim:chunks=8,delay_ms=20]] hello")
        assert (answer.status_code, "interrupted" in answer.text) == (200, False), answer.text
        assert len(suite.simulator.served(key=body["api_key"])) == 1


async def test_an_operator_stops_a_service_and_lets_it_go_on(suite: Suite, ada: Person) -> None:
    async with a_long_answer(ada, chunks=60) as lines:
        done = await asyncio.to_thread(suite.command, "keyvault", "stop", "chat", "--reason", "dr")
        assert done.returncode == 0, done.stderr
        try:
            # In the first session an answer is being written.
            await ada.start_session()
            answer = await ada.ask("hello")
            assert (answer.status_code, answer.json()["code"]) == (503, "keys_withheld")
            assert int(answer.headers["retry-after"]) > 0
            shown = await asyncio.to_thread(suite.command, "keyvault", "status")
            assert "chat stopped" in shown.stdout
            # A stop is about the next key; what runs is its user's, and goes on.
            assert any([line.startswith("event: done") async for line in lines])
        finally:
            resumed = await asyncio.to_thread(suite.command, "keyvault", "resume", "chat")
    assert resumed.returncode == 0, resumed.stderr
    assert (await ada.ask("hello")).status_code == 200
