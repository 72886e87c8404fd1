"""A pool of chat for each tier: what happens to one does not happen to the others."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
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


# Of Procfile.pools' free tier (`deploy/companion/environment.py`), and what may begin at once.
A_SECOND, AT_ONCE = 10, 1


class Flood:
    """Users of the free tier who ask again as soon as they are answered."""

    def __init__(self, crowd: Sequence[Person], each: int) -> None:
        self.seen: Counter[int] = Counter()
        self._enough = asyncio.Event()
        self._asking = [
            asyncio.create_task(self._ask(person)) for person in crowd for _ in range(each)
        ]

    async def _ask(self, person: Person) -> None:
        while not self._enough.is_set():
            self.seen[(await person.ask("[[sim:first_ms=50]] more")).status_code] += 1

    async def until(self, status: int) -> None:
        """Somebody of them has been answered so."""
        async with asyncio.timeout(60):
            while not self.seen[status]:
                await asyncio.sleep(0.05)

    async def ends(self) -> None:
        self._enough.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*self._asking)


def begun(suite: Suite, tier: str) -> list[float]:
    """When the turns of a tier were let in, in seconds."""
    rows = suite.rows(
        "chat",
        "select extract(epoch from created_at) from generation where tier = %s order by created_at",
        tier,
    )
    return [float(moment) for (moment,) in rows]


async def waited(suite: Suite, tier: str) -> float:
    """How many turns of a tier its pool has let wait."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        text = (await client.get(f"{suite.internal_url(f'chat-{tier}')}/metrics")).text
    name = f'companion_chat_turn_wait_seconds_count{{tier="{tier}"}} '
    counts = [line.removeprefix(name) for line in text.splitlines() if line.startswith(name)]
    return sum(map(float, counts))


async def test_a_flood_of_the_free_tier_is_refused_and_takes_no_place_of_pro(
    pools: Suite,
) -> None:
    async with users(pools, *["free"] * 8, "pro") as (*crowd, pro):
        earlier = len(begun(pools, "free"))
        before = await timed(pro)
        flood = Flood(crowd, each=5)
        during = await timed(pro)
        await flood.until(429)
        await flood.ends()
        after = await timed(pro)
        assert await waited(pools, "free") > 0
        assert await waited(pools, "pro") == 0
    # They share the processors of this machine, and nothing to wait in line for.
    calm = max(median(before), median(after))
    assert median(during) < 4 * calm + SLACK_SECONDS, (before, during, after)
    # On a busy machine an admission may come too late; then the free tier waits and pro does not.
    assert set(flood.seen) <= {200, 409, 429, 503}
    # Nobody of them lost anything by being turned away: all that is granted a minute was answered.
    moments = begun(pools, "free")[earlier:]
    assert len(moments) >= flood.seen[200] >= 8
    # However many may ask at once, what all tiers share is asked at a steady pace.
    steady = (len(moments) - 1 - AT_ONCE) / A_SECOND
    assert moments[-1] - moments[0] > steady / 2, (len(moments), moments[-1] - moments[0])
