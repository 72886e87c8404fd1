"""Replicas and databases that go while answers are under way: each answer is settled once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from deploy.companion.settings import ROOT
from services.chat.settings import Settings
from services.chat.wiring import wire
from shared.db.database import open_database
from shared.db.migrations import upgrade
from shared.settings import service_database_url
from shared.tokens import CLOCK_SKEW_SECONDS
from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.support.chat_replicas import another_replica, chat_process, events_of, next_events
from tests.support.engines import PostgresServer, running_postgres
from tests.support.waiting import eventually, until

STREAMS = 20


def asked(chat: ChatSuite, user: ChatUser) -> int:
    """How many of their calls were let through to a vendor."""
    return sum(call.grant.user_id == user.id for call in chat.egress.calls)


async def test_a_replica_that_is_killed_before_the_first_word_is_an_interruption_elsewhere(
    chat: ChatSuite,
) -> None:
    async with (
        chat.user() as user,
        another_replica(chat.settings) as (elsewhere, _),
        chat_process(chat.settings, CHAT_HOLD_LEASE_SECONDS="5") as doomed,
    ):
        session = f"chat/sessions/{user.session_id}"
        body = {"content": "[[sim:first_ms=60000]] never", "stream": True}

        listening = asyncio.create_task(
            user.client.post(f"{doomed.url}/{session}/messages", json=body)
        )
        await until(lambda: asked(chat, user) == 1)
        has_begun = asyncio.Event()

        async def follow_on() -> str:
            path = f"{elsewhere}/{session}/stream"
            async with user.client.stream("GET", path, timeout=60) as answer:
                assert answer.status_code == 200
                has_begun.set()
                return "".join([text async for text in answer.aiter_text()])

        following = asyncio.create_task(follow_on())
        await asyncio.wait_for(has_begun.wait(), 20)
        doomed.kill()
        with pytest.raises(httpx.HTTPError):
            await listening
        async with wire(chat.settings) as worker:
            sweep = replace(worker.actions.settle_orphans, patience=timedelta(seconds=1))

            async def outcomes() -> list[str]:
                await sweep()
                return [row["outcome"] for row in await chat.holds(user.id)]

            await eventually(outcomes, lambda seen: seen == ["replica_lost"], seconds=40)
        *_, last = events_of(await following)
        assert (last.name, last.data["problem"]["code"]) == ("interrupted", "answer_lost")
        assert last.data["message"]["content"] == ""
        assert len(await chat.usage_events(user.id)) == 1
        # Its session goes on at once, and so does whoever comes late.
        late = events_of((await user.client.get(f"{elsewhere}/{session}/stream")).text)
        assert late[-1].data["message"] == last.data["message"]
        assert (await user.ask("and now?")).status_code == 200


# A process whose clock is so far ahead: what it signs, counts by and makes ids of.
_AHEAD = """
import os, time
from datetime import timedelta
ahead, seconds, nanoseconds = int(os.environ["CLOCK_AHEAD"]), time.time, time.time_ns
time.time = lambda: seconds() + ahead
time.time_ns = lambda: nanoseconds() + ahead * 1_000_000_000
from shared.clock import SystemClock
now = SystemClock.now
SystemClock.now = lambda clock: now(clock) + timedelta(seconds=ahead)
"""


@asynccontextmanager
async def a_replica_ahead(chat: ChatSuite, folder: Path, seconds: int) -> AsyncIterator[str]:
    (folder / "sitecustomize.py").write_text(_AHEAD)
    surroundings = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "CLOCK_AHEAD": str(seconds)}
    async with chat_process(chat.settings, **surroundings) as process:
        yield process.url


@pytest.mark.usefixtures("room_in_the_minute")
async def test_a_replica_whose_clock_is_a_little_ahead_keeps_the_order_and_the_limits(
    chat: ChatSuite, tmp_path: Path
) -> None:
    ahead = CLOCK_SKEW_SECONDS - 2
    async with a_replica_ahead(chat, tmp_path, ahead) as other, chat.user(tier="pro") as user:
        base = f"/chat/sessions/{user.session_id}/messages"
        for number in range(8):
            url = (chat.url, other)[number % 2]
            answer = await user.client.post(url + base, json={"content": f"n{number}"})
            assert answer.status_code == 200, answer.text
        listed = (await user.client.get(base)).json()["data"]
        said = [f"n{number}" for number in range(8)]
        assert [message["content"] for message in listed][::2] == said
        assert [m["parent_id"] for m in listed] == [None, *(m["id"] for m in listed[:-1])]
        ids = [message["id"] for message in listed]
        assert ids == sorted(ids)
        assert len({event["id"] for event in await chat.usage_events(user.id)}) == 8
        for url in (chat.url, other):

            async def limits(url: str = url) -> list[dict[str, Any]]:
                return list((await user.client.get(f"{url}/chat/limits")).json()["data"])

            seen = await eventually(limits, lambda rows: not any(r["reserved"] for r in rows))
            assert not any(row["used"] for row in seen if not row["window_seconds"])


async def test_a_replica_whose_clock_is_far_ahead_is_refused_and_costs_nothing(
    chat: ChatSuite, tmp_path: Path
) -> None:
    ahead, served = 3 * CLOCK_SKEW_SECONDS, len(chat.simulator.served())
    async with a_replica_ahead(chat, tmp_path, ahead) as other, chat.user() as user:
        base = f"/chat/sessions/{user.session_id}/messages"
        refused = await user.client.post(other + base, json={"content": "who am I?"})
        assert (refused.status_code, refused.json()["code"]) == (503, "dependency_unavailable")
        assert (len(chat.simulator.served()), await chat.usage_events(user.id)) == (served, [])
        assert [row["state"] for row in await chat.holds(user.id)] == ["settled"]
        # And nothing of it is in the way of a replica that knows the time.
        assert (await user.ask("hello")).status_code == 200
        assert len(await chat.usage_events(user.id)) == 1


@pytest.fixture
def mortal_postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL that keeps its promises, and that the test may crash."""
    with running_postgres(tmp_path, hasty=False) as server:
        server.create_database("companion_chat")
        upgrade("chat", service_database_url(server.url, "chat"))
        yield server


@pytest.fixture
async def exposed(chat: ChatSuite, mortal_postgres: PostgresServer) -> AsyncIterator[ChatSuite]:
    """A chat that keeps everything there."""
    settings: Settings = chat.settings.model_copy(
        update={"database_url": SecretStr(mortal_postgres.url)}
    )
    url = service_database_url(mortal_postgres.url, "chat")
    async with (
        another_replica(settings) as (served, process),
        open_database(url, connections=2, application="test") as database,
    ):
        yield replace(chat, url=served, settings=settings, database=database, process=process)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_a_database_that_restarts_under_many_answers_has_each_of_them_once(
    exposed: ChatSuite, mortal_postgres: PostgresServer, how: signal.Signals
) -> None:
    async with AsyncExitStack() as stack:
        served = len(exposed.simulator.served())
        users = [await stack.enter_async_context(exposed.user()) for _ in range(STREAMS)]
        under_way = asyncio.Semaphore(0)

        async def ask(user: ChatUser) -> str:
            path = f"/chat/sessions/{user.session_id}/messages"
            body = {"content": "[[sim:chunks=30,delay_ms=100]] on", "stream": True}
            async with user.client.stream("POST", path, json=body) as answer:
                lines = answer.aiter_lines()
                await next_events(lines, "delta")
                under_way.release()
                return str((await next_events(lines, "done"))[-1].data["message"]["status"])

        asking = [asyncio.create_task(ask(user)) for user in users]
        for _ in users:
            async with asyncio.timeout(30):
                await under_way.acquire()
        assert not any(task.done() for task in asking)
        os.kill(mortal_postgres.child.pid, how)
        await asyncio.to_thread(mortal_postgres.child.stop)
        # The answers end meanwhile, and nothing can be written down.
        await until(lambda: len(exposed.simulator.served()) >= served + STREAMS, seconds=60)
        await asyncio.to_thread(
            mortal_postgres.child.start_again, mortal_postgres.engine.is_ready, seconds=60
        )
        assert Counter(await asyncio.gather(*asking)) == {"done": STREAMS}
        for user in users:
            holds = await eventually(
                lambda user=user: exposed.holds(user.id),  # type: ignore[misc]
                lambda rows: all(row["state"] == "settled" for row in rows),
                seconds=30,
            )
            assert [row["outcome"] for row in holds] == ["done"]
            assert len(await exposed.usage_events(user.id)) == 1
