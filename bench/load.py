"""Load: many requests in flight (what a request costs), or a steady rate (how long it takes)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

import aiohttp
import orjson


@dataclass(frozen=True, slots=True)
class Call:
    """One request to make."""

    url: str
    body: bytes
    headers: Mapping[str, str]


NextCall = Callable[[], Call]


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)  # of each latency, by the clock of `monotonic`
    first_bytes: list[float] = field(default_factory=list)
    reads: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        return len(self.latencies)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.done / self.seconds

    def percentile_ms(self, which: int, of: Sequence[float] | None = None) -> float:
        """A percentile of the latencies (or of others), in milliseconds."""
        values = self.latencies if of is None else of
        return quantiles(values, n=100, method="inclusive")[which - 1] * 1000


def json_call(url: str, body: Mapping[str, Any], token: str = "") -> Call:
    """A POST of JSON."""
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    return Call(url, orjson.dumps(body), headers)


async def in_flight(next_call: NextCall, *, requests: int, at_once: int) -> Outcome:
    """Keep a number of requests in flight until all are made."""
    outcome, left = Outcome(), iter(range(requests))
    async with _session() as session:
        began = time.perf_counter()

        async def worker() -> None:
            for _ in left:
                await _make(session, next_call(), outcome)

        await asyncio.gather(*(worker() for _ in range(at_once)))
        outcome.seconds = time.perf_counter() - began
    return outcome


async def at_rate(next_call: NextCall, *, requests: int, per_second: float) -> Outcome:
    """Begin requests at a steady rate, whatever becomes of those before."""
    outcome = Outcome()
    async with _session() as session:
        began = time.perf_counter()
        tasks = []
        for number in range(requests):
            await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
            tasks.append(asyncio.create_task(_make(session, next_call(), outcome)))
        await asyncio.gather(*tasks)
        outcome.seconds = time.perf_counter() - began
    return outcome


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60)
    )


async def _make(session: aiohttp.ClientSession, call: Call, outcome: Outcome) -> None:
    began = time.perf_counter()
    try:
        async with session.post(call.url, data=call.body, headers=call.headers) as answer:
            first = True
            async for _ in answer.content.iter_any():
                outcome.reads += 1
                if first:
                    outcome.first_bytes.append(time.perf_counter() - began)
                    first = False
            if answer.status != 200:
                outcome.failures.append(f"status {answer.status}")
                return
    except (aiohttp.ClientError, TimeoutError) as error:
        outcome.failures.append(type(error).__name__)
        return
    outcome.latencies.append(time.perf_counter() - began)
    outcome.begun.append(time.monotonic() - outcome.latencies[-1])
