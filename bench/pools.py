"""What a flood of the free tier does to turns of the pro tier: `python -m bench.pools`.

The suite runs with a pool of chat for each tier (Procfile.pools) and the pace that the free tier
has there, with `--no-pace` without it, or with `--one-pool` with one chat for all tiers. Pro users
ask at a steady rate, with and without a flood of free users, in alternating rounds. On two cores,
chat's free pool and the flood have one to themselves; everything that pro needs has the other: its
pool, and what both tiers share (gateway, egress, keyvault, PostgreSQL, Valkey, workers) with the
simulated vendor and the measuring client.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import TypeAlias

import aiohttp

from bench.load import NextCall, Outcome, at_rate, in_flight, json_call
from bench.people import Chatter, chatters
from bench.processes import family
from deploy.companion.settings import ROOT
from tests.support.suite import Suite, running_suite

PER_SECOND = 20.0
PRO_USERS = 80  # their tier has 20 requests a minute each
FREE_USERS = 60  # five each: what is asked beyond is refused
AT_ONCE = 64
FREE_ASKS = "[[sim:first_ms=100]] flood"
FLOODED = "chat-free"


Answered: TypeAlias = "tuple[int, str]"
"""In which second of the machine's clock, and with what status."""


@dataclass(frozen=True, slots=True)
class Flooded:
    """Pro's turns in one round, and what came of the flood meanwhile."""

    pro: Outcome
    answers: Counter[Answered]
    seconds: float

    def pro_while(self, *, let_in: bool) -> list[float]:
        """How long pro's turns took that began in seconds in which turns of the flood were
        answered, or in which all of it was refused."""
        busy = {second for second, status in self.answers if status == "200"}
        took = zip(self.pro.begun, self.pro.latencies, strict=True)
        return [seconds for begun, seconds in took if (int(begun) in busy) is let_in]


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.pools", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="a round, with and without")
    parser.add_argument("--one-pool", action="store_true", help="one chat for all tiers")
    parser.add_argument("--no-pace", action="store_true", help="all turns begin as they come")
    arguments = parser.parse_args()
    environment = {"LOG_LEVEL": "warning", "GATEWAY_SHIELD_REQUESTS_PER_SECOND": "100000"}
    if not arguments.one_pool:
        environment["COMPANION_PROCFILE"] = str(ROOT / "Procfile.pools")
    if arguments.no_pace:
        environment["CHAT_TURNS_PER_SECOND"] = "free=0"
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        with running_suite(Path(folder), **environment) as suite:
            cores = _separate(suite)
            asyncio.run(_measure(suite, arguments.rounds, arguments.seconds, cores))


def _separate(suite: Suite) -> Sequence[int]:
    """Where the flood belongs: all cores if there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return cores
    floods, others = cores[:1], cores[1:]
    _pin(os.getpid(), others)
    for row in suite.running.processes():
        if row.pid is not None:
            _pin(row.pid, floods if row.name == FLOODED else others)
    return floods


def _pin(pid: int, cores: Sequence[int]) -> None:
    """A process, what it started, and all their threads: Envoy works in a thread of its own."""
    for member in family(pid):
        for thread in Path(f"/proc/{member}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


async def _measure(suite: Suite, rounds: int, seconds: float, cores: Sequence[int]) -> None:
    pro = await chatters(suite, "pro", PRO_USERS)
    free = await chatters(suite, "free", FREE_USERS)
    ask = _turns(pro)
    await in_flight(ask, requests=PRO_USERS, at_once=4)
    quiet: list[Outcome] = []
    flooded: list[Flooded] = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", file=sys.stderr)
        quiet.append(await at_rate(ask, requests=int(seconds * PER_SECOND), per_second=PER_SECOND))
        with _flood(free, cores) as answers:
            await asyncio.sleep(1)
            began = time.perf_counter()
            outcome = await at_rate(ask, requests=int(seconds * PER_SECOND), per_second=PER_SECOND)
            elapsed = time.perf_counter() - began + 1
        flooded.append(Flooded(outcome, answers, elapsed))
    print(_report(quiet, flooded))


def _turns(people: Sequence[Chatter], content: str = "bench") -> NextCall:
    turn = itertools.cycle(people)

    def make() -> object:
        person = next(turn)
        return json_call(person.url, {"content": content}, person.token)

    return make  # type: ignore[return-value]


@contextmanager
def _flood(free: Sequence[Chatter], cores: Sequence[int]) -> Iterator[Counter[Answered]]:
    """Runs in a process of its own until the block ends; then its answers are known."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_run_flood, args=(theirs, list(free), list(cores)), daemon=True
    )
    process.start()
    ours.recv()
    answers: Counter[Answered] = Counter()
    try:
        yield answers
    finally:
        ours.send("enough")
        answers.update(ours.recv())
        process.join(10)


def _run_flood(pipe: Connection, free: Sequence[Chatter], cores: Sequence[int]) -> None:
    os.sched_setaffinity(0, cores)
    asyncio.run(_ask_until_told(pipe, _turns(free, FREE_ASKS)))


async def _ask_until_told(pipe: Connection, next_call: NextCall) -> None:
    answers: Counter[Answered] = Counter()
    enough = asyncio.Event()

    async def ask(session: aiohttp.ClientSession) -> None:
        while not enough.is_set():
            call = next_call()
            try:
                async with session.post(call.url, data=call.body, headers=call.headers) as answer:
                    await answer.read()
                    answers[int(time.monotonic()), str(answer.status)] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                answers[int(time.monotonic()), type(error).__name__] += 1

    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout
    ) as session:
        pipe.send("begun")
        asking = [asyncio.create_task(ask(session)) for _ in range(AT_ONCE)]
        await asyncio.to_thread(pipe.recv)
        enough.set()
        await asyncio.gather(*asking)
    pipe.send(answers)


def _report(quiet: Sequence[Outcome], flooded: Sequence[Flooded]) -> str:
    answers = sum((one.answers for one in flooded), Counter[Answered]())
    by_status: Counter[str] = Counter()
    for (_, status), count in answers.items():
        by_status[status] += count
    a_second = by_status.total() / sum(one.seconds for one in flooded)
    told = ", ".join(f"{count} × {status}" for status, count in sorted(by_status.items()))
    most = max((n for (_, status), n in answers.items() if status == "200"), default=0)
    return "\n".join(
        [
            "",
            f"| pro at {PER_SECOND:g} a second | turns | failed | p50 ms | p99 ms |",
            "|---|---|---|---|---|",
            _row("alone", quiet),
            _row(f"beside {AT_ONCE} free requests in flight", [one.pro for one in flooded]),
            _part("of it, in seconds with answered free turns", flooded, let_in=True),
            _part("of it, in seconds with refusals alone", flooded, let_in=False),
            "",
            f"The flood was answered {a_second:.0f} times a second: {told}.",
            f"In its busiest second {most} of its turns were answered.",
        ]
    )


def _row(name: str, runs: Sequence[Outcome]) -> str:
    p50, p99 = (median(run.percentile_ms(which) for run in runs) for which in (50, 99))
    failed = sum(len(run.failures) for run in runs)
    return f"| {name} | {sum(run.done for run in runs)} | {failed} | {p50:.1f} | {p99:.1f} |"


def _part(name: str, flooded: Sequence[Flooded], *, let_in: bool) -> str:
    took = [seconds for one in flooded for seconds in one.pro_while(let_in=let_in)]
    if len(took) < 2:
        return f"| {name} | {len(took)} | | | |"
    p50, p99 = (flooded[0].pro.percentile_ms(which, took) for which in (50, 99))
    return f"| {name} | {len(took)} | | {p50:.1f} | {p99:.1f} |"


if __name__ == "__main__":
    main()
