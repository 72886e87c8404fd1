"""What a turn depends on stops answering, without dying: everybody is told in time, and what was
paid for is in the ledger afterwards.

A stalled process keeps its connections: nothing is refused and nothing is closed, so that only a
time limit of our own ends a wait.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from tests.e2e.test_failures import crowd, everything_works_again, the_ledger_is_exact
from tests.support.suite import Person, Suite, a_person

__all__ = ["crowd"]

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SLOWLY = "[[sim:chunks=40,delay_ms=50]] slowly"  # two seconds
BEGIN_SECONDS = 0.5
# A turn is not kept waiting for a database that stalls; a settlement that is under way, longer.
DATABASE_PATIENCE_SECONDS = 6
SETTLEMENT_SECONDS = 12


@pytest.fixture(scope="module")
async def guest(suite: Suite) -> AsyncIterator[Person]:
    """Somebody who pays nothing."""
    person = a_person(suite)
    await person.register()
    await person.store_key()
    await person.start_session()
    yield person
    await person.client.aclose()


@contextmanager
def stalled(suite: Suite, name: str) -> Iterator[None]:
    """All processes of one engine stand still for the length of the block."""
    pid = suite.running.pid_of(name)
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            if process.is_running():
                os.kill(process.pid, signal.SIGCONT)


async def timed(asking: asyncio.Task[httpx.Response]) -> tuple[httpx.Response, float]:
    began = time.perf_counter()
    answer = await asking
    return answer, time.perf_counter() - began


def ask(person: Person, content: str, **parts: object) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(person.ask(content, **parts))


async def test_a_stalled_cache_stops_nobody_who_pays(
    suite: Suite, crowd: list[Person], guest: Person
) -> None:
    running = ask(crowd[0], SLOWLY, stream=True)
    await asyncio.sleep(BEGIN_SECONDS)
    with stalled(suite, "valkey"):
        paid, paid_seconds = await timed(ask(crowd[1], "hello"))
        live, live_seconds = await timed(ask(crowd[2], "hello", stream=True))
        free, free_seconds = await timed(ask(guest, "hello"))
        again, again_seconds = await timed(ask(guest, "hello"))
        finished = await running

    assert "event: done" in finished.text
    assert (paid.status_code, live.status_code) == (200, 200)
    assert "event: done" in live.text
    assert paid_seconds + live_seconds < 4
    for refused, seconds in ((free, free_seconds), (again, again_seconds)):
        assert (refused.status_code, refused.json()["dependency"]) == (503, "cache")
        assert int(refused.headers["retry-after"]) > 0
        assert seconds < 2
    await everything_works_again(suite, guest)
    await the_ledger_is_exact(suite, [*crowd, guest], seconds=60)


async def test_a_stalled_database_is_told_in_time_and_loses_no_usage(
    suite: Suite, crowd: list[Person]
) -> None:
    running = ask(crowd[0], SLOWLY, stream=True)
    await asyncio.sleep(BEGIN_SECONDS)
    with stalled(suite, "postgres"):
        refusals = await asyncio.gather(
            timed(ask(crowd[1], "hello")), timed(ask(crowd[2], "hello", stream=True))
        )
        stranger = await httpx.AsyncClient(trust_env=False).post(
            f"{suite.url}/chat/sessions/{crowd[0].session_id}/messages",
            json={"content": "hello"},
            headers={"authorization": "Bearer nonsense"},
        )
        finished = await asyncio.wait_for(running, SETTLEMENT_SECONDS)

    # All that the vendor said has reached the client, whatever became of its record.
    assert finished.text.count("event: delta") > 5
    assert "slowly" in finished.text
    # Whether a token is good is known without a database.
    assert stranger.status_code == 401
    for refused, seconds in refusals:
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["retry-after"]) > 0
        assert seconds < DATABASE_PATIENCE_SECONDS
    await everything_works_again(suite, crowd[1])
    await everything_works_again(suite, crowd[0])
    await the_ledger_is_exact(suite, crowd, seconds=60)


async def test_a_worker_killed_while_the_database_stands_still_loses_and_doubles_nothing(
    suite: Suite, crowd: list[Person]
) -> None:
    """Its batch is somewhere between a copy and its acknowledgement, and nobody can tell where."""
    for _ in range(3):
        answers = await asyncio.gather(*(ask(person, "hello") for person in crowd))
        assert [answer.status_code for answer in answers] == [200] * len(crowd)
        with stalled(suite, "postgres"):
            killed = suite.kill("billing-worker")
            await asyncio.sleep(DATABASE_PATIENCE_SECONDS)
        await everything_works_again(suite, crowd[0])
        assert suite.running.pid_of("billing-worker") != killed
    await the_ledger_is_exact(suite, crowd, seconds=90)


async def test_turns_go_on_without_billing(suite: Suite, crowd: list[Person]) -> None:
    names = ("billing", "billing-worker")
    for name in names:
        await asyncio.to_thread(suite.running.stop, name)
    try:
        answers = [await person.ask("hello") for person in crowd]
        assert [answer.status_code for answer in answers] == [200] * len(crowd)
    finally:
        for name in names:
            await asyncio.to_thread(suite.running.start, name)
    await the_ledger_is_exact(suite, crowd, seconds=60)


async def test_without_the_egress_new_turns_wait(suite: Suite, crowd: list[Person]) -> None:
    await asyncio.to_thread(suite.running.stop, "egress")
    try:
        for stream in (False, True):
            answer, seconds = await timed(ask(crowd[0], "hello", stream=stream))
            told = answer.text if stream else answer.headers["retry-after"]
            assert answer.status_code == (200 if stream else 503)
            assert "egress" in told if stream else int(told) > 0
            assert seconds < 5
    finally:
        await asyncio.to_thread(suite.running.start, "egress")
        await asyncio.to_thread(suite.running.wait_for, "egress")
    await everything_works_again(suite, crowd[0])
    await the_ledger_is_exact(suite, crowd)
