"""What one governed chat turn costs, against a bare proxy in the same run: `make bench`.

Governed means all of it: both Envoys, token check, admission, hold, key use with its audit row,
settlement, outbox, relay, ledger. The bare proxy is one Envoy between client and vendor. The vendor
is the simulator, which answers at once. Rounds alternate between the two; medians are shown.
`--skeleton` adds the same hops and waits with nothing in them (bench/skeleton.py).

CPU is that of our processes; PostgreSQL and Valkey are shown apart, the client and the vendor are
not counted. While it is measured ours have one core, all others the rest; at the steady rate, where
time is measured, all have all of them. The absolute figures belong to the machine; compare within
one run.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from uuid import uuid4

import httpx
import psutil
import psycopg2
from joserfc.jwk import ECKey

from bench.bare_proxy import BareProxy, bare_proxy
from bench.load import NextCall, Outcome, at_rate, in_flight, json_call
from bench.people import issuer_of
from bench.processes import Meter, family
from bench.skeleton import Skeleton, skeleton
from shared.tokens import sign_access_token
from tests.support.suite import Suite, running_suite

USERS = 160  # more than are in flight; the largest tier has 100 requests a minute each
ENGINES = ("postgres", "valkey")
# Of `min_wal_size`: what a checkpoint leaves ready at least.
_SEGMENTS_KEPT = 5
NOT_OURS = (*ENGINES, "simulator")
STREAM = "[[sim:chunks=50,delay_ms=10]] bench"
IN_FLIGHT = (16, 64)
STREAMS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    rounds: int
    requests: int
    streams: int
    rate: float


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the vendor: its calls, and the processes that are counted."""

    json: NextCall
    stream: NextCall
    pids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """One mode in one round."""

    outcome: Outcome
    cpu: Mapping[str, float]

    def cpu_ms(self, names: Callable[[str], bool]) -> float:
        """CPU milliseconds a request of the chosen processes."""
        return sum(v for k, v in self.cpu.items() if names(k)) * 1000 / self.outcome.done


@dataclass(frozen=True, slots=True)
class HeldUp:
    """What makes turns of a moment wait: commits while a segment of PostgreSQL's log is made, which
    nearly all are in a new database; everybody while Valkey's file is made anew."""

    segments: int
    rewrites: int

    @classmethod
    def by_now(cls, suite: Suite) -> HeldUp:
        """Since the suite's start."""
        log = suite.installation.data.postgres / "pg_wal"
        rewrites = suite.log("valkey").count("rewriting started")
        return cls(sum(len(each.name) == 24 for each in log.iterdir()), rewrites)

    def since(self, before: HeldUp) -> HeldUp:
        return HeldUp(self.segments - before.segments, self.rewrites - before.rewrites)


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.turn", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=600, help="a round and mode, saturated")
    parser.add_argument("--streams", type=int, default=100, help="a round and mode, paced")
    parser.add_argument("--rate", type=float, default=50, help="requests a second for latency")
    parser.add_argument("--skeleton", action="store_true", help="what the hops alone would cost")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="for the suite")
    arguments = parser.parse_args()
    plan = Plan(arguments.rounds, arguments.requests, arguments.streams, arguments.rate)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        environment = {"LOG_LEVEL": "info", "GATEWAY_SHIELD_REQUESTS_PER_SECOND": "100000"}
        environment |= dict(pair.split("=", 1) for pair in arguments.set)
        with running_suite(Path(folder), **environment) as suite:
            vendor_port = suite.installation.ports()["simulator"]
            with bare_proxy(vendor_port) as bare, ExitStack() as stack:
                bones = stack.enter_context(skeleton(suite)) if arguments.skeleton else None
                in_use_for_days(suite)
                asyncio.run(_measure(suite, bare, bones, plan))


def in_use_for_days(suite: Suite) -> None:
    """Have PostgreSQL's log go on in segments that it once made, as it does from its first days on.

    Each one that a new database makes takes 16 MiB of zeros, for which all commits wait.
    """
    url = f"{suite.installation.postgres().superuser_url}/postgres"
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for _ in range(_SEGMENTS_KEPT + 1):
                # Without a record in it none is left.
                cursor.execute("select pg_logical_emit_message(false, 'bench', '')")
                cursor.execute("select pg_switch_wal()")
            # What was used goes back to be used again, by the second one also what the first wrote.
            cursor.execute("checkpoint")
            cursor.execute("checkpoint")
    finally:
        connection.close()


def separate(suite: Suite, measured: Iterable[int], cores: Sequence[int]) -> None:
    """The suite's own processes and what else is measured on the first of these cores, the client,
    the vendor and the engines on the others, if there are any."""
    if len(cores) < 2:
        return
    ours, others = cores[:1], cores[1:]
    os.sched_setaffinity(0, others)
    for name, pid in _pids(suite).items():
        _allow(pid, others if name in NOT_OURS else ours)
    for pid in measured:
        _allow(pid, ours)


def spread(suite: Suite, measured: Iterable[int], cores: Sequence[int]) -> None:
    """All of them on all of these cores."""
    os.sched_setaffinity(0, cores)
    for pid in (*_pids(suite).values(), *measured):
        _allow(pid, cores)


def cores_at_hand() -> Sequence[int]:
    """Those that we may use; to be asked before anything is separated."""
    return sorted(os.sched_getaffinity(0))


def _allow(pid: int, cores: Iterable[int]) -> None:
    for process in family(pid):
        # One that has ended since needs no core.
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in Path(f"/proc/{process}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)


def _pids(suite: Suite) -> dict[str, int]:
    return {row.name: row.pid for row in suite.running.processes() if row.pid}


async def _measure(suite: Suite, bare: BareProxy, bones: Skeleton | None, plan: Plan) -> None:
    ways = await _ways(suite, bare, bones)
    others = [bare.pid, *(bones.pids.values() if bones else ())]
    cores = cores_at_hand()
    separate(suite, others, cores)
    print("warming up ...", file=sys.stderr)
    for way in ways.values():
        await in_flight(way.json, requests=200, at_once=8)

    saturated: dict[str, list[Measured]] = {}
    steady: dict[str, list[Outcome]] = {name: [] for name in ways}
    held_up: list[HeldUp] = []
    for number in range(plan.rounds):
        print(f"round {number + 1} of {plan.rounds} ...", file=sys.stderr)
        separate(suite, others, cores)
        for at_once in IN_FLIGHT:
            for name, way in ways.items():
                found = await _saturated(way, way.json, plan.requests, at_once)
                saturated.setdefault(f"{name} json {at_once}", []).append(found)
        for name, way in ways.items():
            found = await _saturated(way, way.stream, plan.streams, STREAMS_AT_ONCE)
            saturated.setdefault(f"{name} stream", []).append(found)
        spread(suite, others, cores)
        for name, way in ways.items():
            before = HeldUp.by_now(suite)
            requests = int(plan.rate * 8)
            steady[name].append(await at_rate(way.json, requests=requests, per_second=plan.rate))
            if name == "turn":
                held_up.append(HeldUp.by_now(suite).since(before))
    memory = Meter(_pids(suite)).resident()
    print(_report(saturated, steady, memory, held_up))


async def _ways(suite: Suite, bare: BareProxy, bones: Skeleton | None) -> dict[str, Way]:
    groups = _pids(suite)
    engines = {name: groups[name] for name in ENGINES}
    ways = {"bare": Way(*_bare(bare), {"bare": bare.pid})}
    if bones is not None:
        whole = bones.call({"content": "bench"})
        streamed = bones.call({"content": STREAM, "stream": True})
        ways["skeleton"] = Way(lambda: whole, lambda: streamed, {**engines, **bones.pids})
    # Every line of the log passes through supervisord.
    counted = groups | {"supervisord": psutil.Process(groups["chat"]).ppid()}
    return ways | {"turn": Way(*await _governed(suite), counted)}


async def _saturated(way: Way, call: NextCall, requests: int, at_once: int) -> Measured:
    meter = Meter(way.pids)
    outcome = await in_flight(call, requests=requests, at_once=at_once)
    await settled()
    return Measured(outcome, meter.spent())


async def settled() -> None:
    # The relay and billing work after the answer; their time belongs to the turns just made.
    await asyncio.sleep(1.5)


async def _governed(suite: Suite) -> tuple[NextCall, NextCall]:
    """Turns of many users, each with a key and a session of their own for JSON and streams."""
    key = signing_key(suite)
    async with httpx.AsyncClient(base_url=suite.url, trust_env=False, timeout=30) as client:
        users = [await _a_user(client, key) for _ in range(USERS)]
    turn = itertools.cycle(users)

    def call(body: Mapping[str, object]) -> NextCall:
        def make() -> object:
            token, url = next(turn)
            return json_call(url, body, token)

        return make  # type: ignore[return-value]

    return call({"content": "bench"}), call({"content": STREAM, "stream": True})


def signing_key(suite: Suite) -> ECKey:
    document = json.loads(suite.installation.data.signing_keys.read_text())
    (active,) = [key for key in document["keys"] if key["state"] == "active"]
    return ECKey.import_key(active)


async def _a_user(client: httpx.AsyncClient, key: ECKey) -> tuple[str, str]:
    token = await signed_in(client, key, scope="chat keys", provider="openai")
    headers = {"authorization": f"Bearer {token}"}
    session = await client.post("/chat/sessions", json={}, headers=headers)
    session.raise_for_status()
    return token, f"{client.base_url}/chat/sessions/{session.json()['id']}/messages"


async def signed_in(client: httpx.AsyncClient, key: ECKey, *, scope: str, provider: str) -> str:
    """The access token of a new user of the largest tier, who has stored a key."""
    now = int(time.time())
    claims = {
        "iss": await issuer_of(client),
        "aud": "companion",
        "sub": str(uuid4()),
        "sid": str(uuid4()),
        "jti": str(uuid4()),
        "tier": "enterprise",
        "role": "member",
        "org": None,
        "scope": scope,
        "auth_time": now,
        "amr": ["pwd"],
    }
    token = sign_access_token(key, claims, issued_at=now, lifetime_seconds=900)
    headers = {"authorization": f"Bearer {token}"}
    stored = await client.put(f"/keys/{provider}", json={"api_key": "bench-key-1"}, headers=headers)
    stored.raise_for_status()
    return token


def _bare(bare: BareProxy) -> tuple[NextCall, NextCall]:
    url = f"{bare.url}/openai/v1/chat/completions"

    def call(content: str, *, stream: bool) -> NextCall:
        body = {
            "model": "gpt-6.1-sol",
            "messages": [{"role": "user", "content": content}],
            "max_completion_tokens": 8000,
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return lambda: json_call(url, body, "bench-key-1")

    return call("bench", stream=False), call(STREAM, stream=True)


def _report(
    saturated: Mapping[str, list[Measured]],
    steady: Mapping[str, list[Outcome]],
    memory: Mapping[str, int],
    held_up: Sequence[HeldUp],
) -> str:
    lines = [
        "",
        "| mode | failed | requests/s | CPU ms/request, ours | of it: chat, keyvault, "
        "gateway + egress, relay + workers | PostgreSQL + Valkey | ratio to bare |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in saturated.items():
        yardstick = median(r.cpu_ms(lambda _: True) for r in saturated[_bare_of(name)])
        lines.append(_row(name, runs, yardstick))
    lines += [
        "",
        *_stream_lines(saturated),
        "",
        *_latency_lines(steady),
        "",
        *_round_lines(steady, held_up),
        "",
    ]
    total = sum(size for name, size in memory.items() if name not in NOT_OURS)
    lines.append(
        f"Memory: chat {memory['chat'] / 2**20:.0f} MiB, all of ours {total / 2**20:.0f} MiB."
    )
    return "\n".join(lines)


def _bare_of(name: str) -> str:
    _, _, mode = name.partition(" ")
    return f"bare {mode}"


def _row(name: str, runs: list[Measured], yardstick: float) -> str:
    ours = median(r.cpu_ms(lambda n: n not in NOT_OURS) for r in runs)

    def part(*names: str) -> str:
        return f"{median(r.cpu_ms(lambda n: n in names) for r in runs):.2f}"

    workers = ("relay", *(n for n in runs[0].cpu if n.endswith("-worker")))
    shares = ", ".join([part("chat"), part("keyvault"), part("gateway", "egress"), part(*workers)])
    failed = sum(len(r.outcome.failures) for r in runs)
    rate = median(r.outcome.rate for r in runs)
    apart = part(*ENGINES)
    bare = name.startswith("bare")
    return (
        f"| {name} | {failed} | {rate:.0f} | {ours:.3f} | {'' if bare else shares} "
        f"| {'' if bare else apart} | {ours / yardstick:.1f} |"
    )


def _stream_lines(saturated: Mapping[str, list[Measured]]) -> list[str]:
    chunks = 50
    hot = ("bare", "gateway", "chat", "egress")

    def per_chunk(runs: list[Measured]) -> float:
        return median(r.cpu_ms(lambda n: n in hot) for r in runs) * 1000 / chunks

    streams = {name: runs for name, runs in saturated.items() if name.endswith(" stream")}
    bare = per_chunk(streams["bare stream"])
    first = median(
        r.outcome.percentile_ms(99, r.outcome.first_bytes) for r in streams["turn stream"]
    )
    costs = ", ".join(
        f"{name.partition(' ')[0]} {per_chunk(runs):.0f} ({per_chunk(runs) / bare:.1f})"
        for name, runs in streams.items()
    )
    return [
        f"Streams of {chunks} chunks, 10 ms apart, {STREAMS_AT_ONCE} at once: CPU-µs a chunk "
        f"through gateway, chat and egress, and times bare: {costs}. First byte of a turn p99 "
        f"{first:.1f} ms.",
    ]


def _latency_lines(steady: Mapping[str, list[Outcome]]) -> list[str]:
    def at(name: str, which: int) -> float:
        return median(run.percentile_ms(which) for run in steady[name])

    lines = ["| JSON at a steady rate | p50 ms | p99 ms |", "|---|---|---|"]
    lines += [f"| {name} | {at(name, 50):.1f} | {at(name, 99):.1f} |" for name in steady]
    lines += [
        f"| {name}, added | {at(name, 50) - at('bare', 50):.1f} "
        f"| {at(name, 99) - at('bare', 99):.1f} |"
        for name in steady
        if name != "bare"
    ]
    return lines


def _round_lines(steady: Mapping[str, list[Outcome]], held_up: Sequence[HeldUp]) -> list[str]:
    rounds = [
        f"{outcome.percentile_ms(50):.1f} / {outcome.percentile_ms(99):.1f} ({what.segments}, "
        f"{what.rewrites})"
        for outcome, what in zip(steady["turn"], held_up, strict=True)
    ]
    return [
        "Turns of each steady round, p50 / p99 ms, and what held some of them up: segments of "
        "PostgreSQL's log that were new, and how often Valkey made its file anew: "
        f"{', '.join(rounds)}."
    ]


if __name__ == "__main__":
    main()
