"""Many paced streams through one core of chat: `python -m bench.streams`.

So many streams are kept under way for a while, each of as many frames as a vendor would write at
its pace. Chat has a core to itself, and everything else the others. A frame is late when it reaches
the client more than 100 ms after the vendor's own pace would have it; that pace is what the vendor
says that its answers took, since a busy machine slows it as well.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import orjson
import psutil

from bench.people import Chatter, chatters
from bench.processes import Meter, family
from tests.support.suite import Suite, running_suite

LATE_SECONDS = 0.1
HOT = ("chat", "gateway", "egress")
_DELTA = b"event: delta\n"
_DONE = b"event: done\n"


@dataclass(slots=True)
class Stream:
    """One answer as its client saw it: when the first byte came, and each frame after that."""

    first_byte: float = 0.0
    frames: list[float] = field(default_factory=list)
    ended_well: bool = False
    failure: str = ""

    def lateness(self, step: float) -> Iterator[float]:
        """How much later than the vendor's pace each frame came, counted from the best of them."""
        due = min((at - number * step for number, at in enumerate(self.frames)), default=0.0)
        return (at - number * step - due for number, at in enumerate(self.frames))


@dataclass(frozen=True, slots=True)
class Pace:
    """What is asked of the vendor."""

    frames: int
    delay_ms: int

    @property
    def prompt(self) -> str:
        return f"[[sim:chunks={self.frames},delay_ms={self.delay_ms}]] bench"


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=200, help="at once")
    parser.add_argument("--rounds", type=int, default=3, help="answers of each, one after another")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--delay-ms", type=int, default=20)
    arguments = parser.parse_args()
    pace = Pace(arguments.frames, arguments.delay_ms)
    with chat_on_a_core_of_its_own() as suite:
        asyncio.run(_measure(suite, arguments.streams, arguments.rounds, pace))


@contextmanager
def chat_on_a_core_of_its_own(**settings: str) -> Iterator[Suite]:
    """A suite with simulated vendors; chat has the first core, if there are two."""
    environment = {"LOG_LEVEL": "warning", "GATEWAY_SHIELD_REQUESTS_PER_SECOND": "100000"}
    environment |= settings
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        with running_suite(Path(folder), **environment) as suite:
            cores = sorted(os.sched_getaffinity(0))
            if len(cores) > 1:
                _pin(os.getpid(), cores[1:])
                for name, pid in pids_of(suite).items():
                    _pin(pid, cores[:1] if name == "chat" else cores[1:])
            yield suite


def _pin(pid: int, cores: Sequence[int]) -> None:
    """A process, what it started, and all their threads."""
    for member in family(pid):
        for thread in Path(f"/proc/{member}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def pids_of(suite: Suite) -> dict[str, int]:
    """The suite's processes by name."""
    return {row.name: row.pid for row in suite.running.processes() if row.pid}


async def read_stream(session: aiohttp.ClientSession, person: Chatter, prompt: str) -> Stream:
    """Ask for a live answer and note when its frames come."""
    stream = Stream()
    headers = {"authorization": f"Bearer {person.token}", "content-type": "application/json"}
    body = orjson.dumps({"content": prompt, "stream": True})
    began = time.perf_counter()
    rest = b""
    try:
        async with session.post(person.url, data=body, headers=headers) as answer:
            if answer.status != 200:
                stream.failure = f"status {answer.status}"
                return stream
            async for piece in answer.content.iter_any():
                now = time.perf_counter()
                stream.first_byte = stream.first_byte or now - began
                rest += piece
                whole, _, rest = rest.rpartition(b"\n")
                whole += b"\n"
                stream.frames += [now] * whole.count(_DELTA)
                stream.ended_well = stream.ended_well or _DONE in whole
    except (aiohttp.ClientError, TimeoutError) as error:
        stream.failure = type(error).__name__
    return stream


def many_connections() -> aiohttp.ClientSession:
    """A client that waits for nothing but the answers."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120)
    )


async def _measure(suite: Suite, at_once: int, rounds: int, pace: Pace) -> None:
    people = await chatters(suite, "enterprise", at_once)
    groups = pids_of(suite)
    async with many_connections() as session:
        print("warming up ...", file=sys.stderr)
        await _all(session, people, Pace(4, 5), 1)
        suite.simulator.forget_served()
        meter = Meter({name: groups[name] for name in HOT})
        began = time.perf_counter()
        streams = await _all(session, people, pace, rounds)
        seconds = time.perf_counter() - began
    spent = meter.spent()
    resident = meter.resident()["chat"]
    step = vendors_step(suite, pace)
    print(_report(streams, pace, spent, resident, step, seconds))


async def _all(
    session: aiohttp.ClientSession, people: Sequence[Chatter], pace: Pace, rounds: int
) -> list[Stream]:
    whole = pace.frames * pace.delay_ms / 1000

    async def one(number: int, person: Chatter) -> list[Stream]:
        # Spread over the length of an answer: users don't ask in step.
        await asyncio.sleep(whole * number / len(people))
        return [await read_stream(session, person, pace.prompt) for _ in range(rounds)]

    found = await asyncio.gather(*(one(*each) for each in enumerate(people)))
    return [stream for streams in found for stream in streams]


def vendors_step(suite: Suite, pace: Pace) -> float:
    """The time between two frames as the vendor wrote them."""
    took = [
        row["finished_at"] - row["started_at"]
        for row in suite.simulator.served()
        if row["finished_at"] and row["chunks"] == pace.frames
    ]
    return float(median(took)) / (pace.frames - 1) if took else pace.delay_ms / 1000


def _report(
    streams: Sequence[Stream],
    pace: Pace,
    spent: Mapping[str, float],
    resident: int,
    step: float,
    seconds: float,
) -> str:
    failed = [s.failure or "no end" for s in streams if s.failure or not s.ended_well]
    first = quantiles([s.first_byte for s in streams if s.first_byte], n=100, method="inclusive")
    lateness = [late for s in streams if s.ended_well for late in s.lateness(step)]
    frames = sum(len(s.frames) for s in streams)
    lost = len(streams) * pace.frames - frames
    cpu = ", ".join(f"{name} {spent[name] * 1e6 / max(frames, 1):.0f}" for name in HOT)
    return "\n".join(
        [
            "",
            f"{len(streams)} streams of {pace.frames} frames, {pace.delay_ms} ms apart (the vendor "
            f"wrote one each {step * 1000:.1f} ms), in {seconds:.1f} s; failed: "
            f"{dict(Counter(failed)) or 'none'}.",
            "",
            "| first byte p50 ms | p99 ms | frames | lost | late | latest ms | CPU-µs a frame "
            "| chat's memory MiB |",
            "|---|---|---|---|---|---|---|---|",
            f"| {first[49] * 1000:.1f} | {first[98] * 1000:.1f} | {frames} | {lost} "
            f"| {sum(late > LATE_SECONDS for late in lateness)} "
            f"| {max(lateness, default=0) * 1000:.0f} | {cpu} | {resident / 2**20:.0f} |",
            f"\nChat used {spent['chat'] / seconds:.2f} of its core. {_company()}",
        ]
    )


def _company() -> str:
    load = psutil.getloadavg()[0]
    return f"The machine's load was {load:.1f} on {psutil.cpu_count()} cores."


if __name__ == "__main__":
    main()
