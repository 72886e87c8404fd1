"""A pool of chat for each tier: what happens to one does not happen to the others."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from statistics import median

import httpx
import pytest

from deploy.companion.settings import ROOT
from tests.support.suite import Person, Suite, a_person, running_suite

# What a pause of a busy machine's may add to a median.
SLACK_SECONDS = 0.1

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    directory = tmp_path_factory.mktemp("pools")
    with running_suite(directory, COMPANION_PROCFILE=str(ROOT / "Procfile.pools")) as running:
        yield running


@asynccontextmanager
async def users(suite: Suite, *tiers: str) -> AsyncIterator[list[Person]]:
    """One of each of these tiers, with a key and a chat session."""
    people = [a_person(suite) for _ in tiers]
    try:
        for person, tier in zip(people, tiers, strict=True):
            await person.register()
            if tier != "free":
                await person.become(tier)
            await person.store_key()
            await person.start_session()
        yield people
    finally:
        for person in people:
            await person.client.aclose()


def pid_of(suite: Suite, name: str) -> int:
    (pid,) = [row.pid for row in suite.running.processes() if row.name == name]
    assert pid is not None
    return pid


async def timed(person: Person) -> list[float]:
    """How many seconds each of some questions took; all are answered."""
    seconds = []
    for number in range(6):  # three times that is less than pro's limit of a minute
        began = time.monotonic()
        assert (await person.ask(f"question {number}")).status_code == 200
        seconds.append(time.monotonic() - began)
    return seconds


async def test_each_tier_has_its_pool_and_a_stalled_one_stalls_nobody_else(pools: Suite) -> None:
    async with users(pools, "free", "pro") as (free, pro):
        assert (await free.ask("hello")).status_code == 200
        assert (await pro.ask("hello")).status_code == 200
        stalled = pid_of(pools, "chat-free")
        os.kill(stalled, signal.SIGSTOP)
        try:
            hanging = asyncio.create_task(free.client.get("/chat/sessions", timeout=2))
            answers = [await pro.ask(f"question {number}") for number in range(5)]
            assert [answer.status_code for answer in answers] == [200] * 5
            with pytest.raises(httpx.TimeoutException):
                await hanging
        finally:
            os.kill(stalled, signal.SIGCONT)
        assert (await free.ask("again")).status_code == 200


async def test_a_flood_of_the_free_tier_is_refused_and_takes_no_place_of_pro(
    pools: Suite,
) -> None:
    async with users(pools, "free", "free", "free", "pro") as (*crowd, pro):
        seen: Counter[int] = Counter()
        enough = asyncio.Event()

        async def flood(person: Person) -> None:
            while not (enough.is_set() and seen[429]):
                seen[(await person.ask("[[sim:first_ms=50]] more")).status_code] += 1

        before = await timed(pro)
        floods = [asyncio.create_task(flood(person)) for person in crowd for _ in range(4)]
        during = await timed(pro)
        enough.set()
        async with asyncio.timeout(20):
            await asyncio.gather(*floods)
        after = await timed(pro)
    # They share the processors of this machine, and nothing to wait in line for.
    calm = max(median(before), median(after))
    assert median(during) < 4 * calm + SLACK_SECONDS, (before, during, after)
    # On a busy machine an admission may come too late; then the free tier waits and pro does not.
    assert set(seen) <= {200, 409, 429, 503}
