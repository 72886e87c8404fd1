"""Turns a second in containers against the embedded default: `python -m bench.deployment`.

Both run at once on this machine and are asked in turn: the compose file with its pools, RabbitMQ
and networks, and the processes of the Procfile, with the same logs. Each rests while the other is
asked, and what that takes from the other is measured, so that it can be told apart. CPU time shows
which part it is that costs more, on a busy machine too. Exits with 1 when the median of the rounds'
quotients is below the bound. Needs a Docker engine with the images of `python -m deploy.images`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Protocol

from bench.containers import ENGINE, ContainerMeter
from bench.load import NextCall, Outcome, in_flight, json_call
from bench.people import Chatter, chatters, chatters_at
from bench.processes import Meter
from deploy.proof import compose, deployment
from deploy.proof.deployment import Deployment
from deploy.proof.engine import an_engine
from deploy.proof.images import DEBIAN, images_here
from tests.support.suite import Suite, running_suite

TIER = "enterprise"
USERS = 200  # of whom each may ask a hundred times a minute
BOUND = 0.85
_PATIENCE_SECONDS = 600.0
_SETTLE_SECONDS = 20.0
_AFTER_SECONDS = 2.0
_WEBS = ("auth", "keyvault", "chat", "voice", "billing")
_BRIDGES = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


class Spending(Protocol):
    """CPU seconds by process since it was made."""

    def __call__(self) -> Mapping[str, float]: ...


@dataclass(slots=True)
class Side:
    """One of the two: who asks it, how its CPU time is read, and what was found."""

    ask: NextCall
    meter: Callable[[], Spending]
    outcomes: list[Outcome] = field(default_factory=list)
    turn: list[Mapping[str, float]] = field(default_factory=list)
    """CPU-ms that a turn adds to rest, by part, a round each."""
    rest: Mapping[str, float] = field(default_factory=dict)
    """CPU-ms a second by part, while nobody asks either."""

    @property
    def rates(self) -> list[float]:
        return [outcome.rate for outcome in self.outcomes]


def main() -> None:
    """Run it, print the tables, and say by the exit code whether the bound was kept."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as name, an_engine() as engine:
        folder = Path(name)
        os.chmod(folder, 0o755)
        program = compose.installed() or compose.from_debian(engine.client, DEBIAN, folder)
        made = deployment.prepare(engine, program, images_here(engine), folder)
        made.down()
        try:
            made.up(seconds=_PATIENCE_SECONDS)
            suite_folder = folder / "embedded"
            suite_folder.mkdir(mode=0o755)
            shield = {"GATEWAY_SHIELD_REQUESTS_PER_SECOND": "100000"}
            with running_suite(suite_folder, **shield) as suite:
                keys = folder / "secrets" / "auth" / "signing_keys.json"
                kept = asyncio.run(_compare(suite, made, keys, given))
        finally:
            made.down()
    sys.exit(0 if kept else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.deployment", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1_500, help="a round of each")
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--rest", type=float, default=30, help="seconds of rest to measure")
    parser.add_argument("--bound", type=float, default=BOUND, help="of the embedded default's rate")
    return parser.parse_args()


async def _compare(suite: Suite, made: Deployment, keys: Path, given: argparse.Namespace) -> bool:
    sides = {
        "embedded": Side(_turns(await chatters(suite, TIER, USERS)), lambda: _processes(suite)),
        "containers": Side(
            _turns(await chatters_at(made.url, keys, TIER, USERS)), lambda: _containers(made)
        ),
    }
    await _rest(list(sides.values()), given.rest)
    for number in range(given.rounds + 1):
        print(f"round {number} of {given.rounds} ...", file=sys.stderr)
        for side in sides.values():
            await _round(side, given, counts=number > 0)  # the first one warms up
    for line in (*rates(sides), "", *costs(sides), "", *verdict(sides, given.bound)):
        print(line)
    return bool(median(quotients(sides)) >= given.bound)


async def _rest(sides: Sequence[Side], seconds: float) -> None:
    print("coming to rest ...", file=sys.stderr)
    await asyncio.sleep(_SETTLE_SECONDS)
    began, meters = time.monotonic(), [side.meter() for side in sides]
    await asyncio.sleep(seconds)
    for side, spent in zip(sides, meters, strict=True):
        found = spent()
        side.rest = by_part(found, per=time.monotonic() - began)


async def _round(side: Side, given: argparse.Namespace, *, counts: bool) -> None:
    began, spent = time.monotonic(), side.meter()
    outcome = await in_flight(side.ask, requests=given.requests, at_once=given.at_once)
    await asyncio.sleep(_AFTER_SECONDS)  # until what was asked for is in the ledger
    used, seconds = by_part(spent(), per=given.requests), time.monotonic() - began
    if counts:
        side.outcomes.append(outcome)
        side.turn.append(beyond_rest(used, side.rest, seconds / given.requests))


def _processes(suite: Suite) -> Spending:
    return Meter({row.name: row.pid for row in suite.running.processes() if row.pid}).spent


def _containers(made: Deployment) -> Spending:
    meter = ContainerMeter(made.containers)
    return lambda: {name: used.cpu_seconds for name, used in meter.spent().items()}


def part_of(process: str) -> str:
    """What does the same work on both sides: `chat` for `chat-pro`, `events` for a relay."""
    if process == "relay" or any(f"-{kind}" in process for kind in ("relay", "worker", "beat")):
        return "relays, workers, clocks"
    service = process.partition("-")[0]
    if service in _WEBS:
        return service if service in ("chat", "keyvault") else "auth, voice, billing"
    return process


def by_part(spent: Mapping[str, float], *, per: float) -> Mapping[str, float]:
    """CPU seconds as milliseconds per turn or second, summed by part."""
    parts: dict[str, float] = {}
    for process, seconds in spent.items():
        part = part_of(process)
        parts[part] = parts.get(part, 0.0) + seconds * 1000 / per
    return parts


def beyond_rest(
    used: Mapping[str, float], rest: Mapping[str, float], seconds: float
) -> Mapping[str, float]:
    """What a turn adds to what would have been used in these seconds anyway."""
    return {part: value - rest.get(part, 0.0) * seconds for part, value in used.items()}


def quotients(sides: Mapping[str, Side]) -> list[float]:
    """Containers against embedded, a round each."""
    pairs = zip(sides["containers"].rates, sides["embedded"].rates, strict=True)
    return [ours / bare for ours, bare in pairs]


def rates(sides: Mapping[str, Side]) -> list[str]:
    """How many turns a second."""
    lines = ["| | turns/s | slowest to fastest round | p99 ms | failed |", "|" + " --- |" * 5]
    for name, side in sides.items():
        p99 = median(outcome.percentile_ms(99) for outcome in side.outcomes)
        failed = sum(len(outcome.failures) for outcome in side.outcomes)
        spread = f"{min(side.rates):.0f} to {max(side.rates):.0f}"
        lines.append(f"| {name} | {median(side.rates):.0f} | {spread} | {p99:.0f} | {failed} |")
    return lines


def costs(sides: Mapping[str, Side]) -> list[str]:
    """CPU time by part: what a turn adds, and a second at rest."""
    names = list(sides)
    turns = {name: _medians(side.turn) for name, side in sides.items()}
    parts = sorted(
        {part for found in turns.values() for part in found},
        key=lambda part: -max(found.get(part, 0) for found in turns.values()),
    )
    head = [
        *(f"a turn adds, {name}" for name in names),
        *(f"a second at rest, {name}" for name in names),
    ]
    lines = [f"| CPU-ms of | {' | '.join(head)} |", "|" + " --- |" * (len(head) + 1)]
    for part in (*parts, "all"):
        of_turns = [_cell(turns[name], part, 3) for name in names]
        of_rest = [_cell(sides[name].rest, part, 1) for name in names]
        lines.append(f"| {part} | {' | '.join([*of_turns, *of_rest])} |")
    return lines


def _medians(rounds: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    parts = {part for found in rounds for part in found}
    return {part: median(found.get(part, 0.0) for found in rounds) for part in parts}


def _cell(found: Mapping[str, float], part: str, digits: int) -> str:
    value = sum(found.values()) if part == "all" else found.get(part)
    return "" if value is None else f"{value:.{digits}f}"


def verdict(sides: Mapping[str, Side], bound: float) -> list[str]:
    """The quotient with its spread; what it would be without the neighbour; by CPU time."""
    found = sorted(quotients(sides))
    cores = os.cpu_count() or 1
    alone = {
        name: median(side.rates) / (1 - _resting(sides, name) / cores)
        for name, side in sides.items()
    }
    # What is left of all processors beside one's own rest, by what a turn adds to that.
    by_cpu = {
        name: (cores - sum(side.rest.values()) / 1000) / sum(_medians(side.turn).values())
        for name, side in sides.items()
    }
    bridges = _BRIDGES.read_text().strip() if _BRIDGES.exists() else "away"
    return [
        f"In containers {median(found):.0%} of the embedded default's turns a second (rounds"
        f" {found[0]:.0%} to {found[-1]:.0%}), {'kept' if median(found) >= bound else 'broken'}:"
        f" at least {bound:.0%}.",
        f"Without the other one resting beside it on {cores} processors, by what that uses:"
        f" {alone['containers'] / alone['embedded']:.0%}. By CPU time (its own rest, what a turn"
        f" adds), which needs no quiet machine: {by_cpu['containers'] / by_cpu['embedded']:.0%}.",
        f"bridge-nf-call-iptables: {bridges}. {ENGINE}: what it starts for probes is not in it.",
    ]


def _resting(sides: Mapping[str, Side], asked: str) -> float:
    """How many processors the other one uses at rest."""
    return sum(sum(side.rest.values()) for name, side in sides.items() if name != asked) / 1000


def _turns(people: Sequence[Chatter]) -> NextCall:
    turn = itertools.cycle(people)

    def make() -> object:
        person = next(turn)
        return json_call(person.url, {"content": "bench"}, person.token)

    return make  # type: ignore[return-value]


if __name__ == "__main__":
    main()
