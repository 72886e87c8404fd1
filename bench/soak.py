"""Whether memory stays flat and nothing is lost in a long time: `python -m bench.soak`.

So many sessions ask at a steady rate, each in its turn as JSON, as a live answer and through a
socket. Every 30 seconds chat's memory is shown; after the warm-up its slope is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
from websockets.exceptions import ConnectionClosed

from bench.people import Chatter, chatters
from bench.processes import Meter
from bench.streams import (
    LATE_SECONDS,
    Pace,
    chat_on_a_core_of_its_own,
    many_connections,
    pids_of,
    read_stream,
    vendors_step,
)
from tests.support.devices import SocketDevice, a_device
from tests.support.suite import Suite

WAYS = ("json", "stream", "socket")
PACE = Pace(frames=32, delay_ms=20)
LOOK_SECONDS = 30.0
# Caches fill and allocators settle in the first part of a run.
WARM_UP = 0.3
# Less is noise: a page here and there.
STEEPEST_MIB_A_MINUTE = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Who asks for how long, how often all together, and in which ways."""

    seconds: float
    sessions: int
    per_second: float
    ways: Sequence[str]


@dataclass(slots=True)
class Seen:
    """What has come of it so far."""

    turns: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    streams: list[list[float]] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)


def main() -> None:
    """Run it, and fail if something was lost or memory grew."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--per-second", type=float, default=10, help="turns, of all together")
    arguments = parser.parse_args()
    # Conversations that are as long as they get soon: what grows then is not what they remember.
    with chat_on_a_core_of_its_own(CHAT_HISTORY_TOKENS="1000") as suite:
        plan = Plan(
            arguments.minutes * 60, arguments.sessions, arguments.per_second, arguments.ways
        )
        sys.exit(asyncio.run(_soak(suite, plan)))


async def _soak(suite: Suite, plan: Plan) -> int:
    people = await chatters(suite, "enterprise", plan.sessions)
    seen = Seen()
    began = time.perf_counter()
    async with many_connections() as session:
        asking = [
            asyncio.create_task(_ask(suite, session, person, number, seen, plan, began))
            for number, person in enumerate(people)
        ]
        watching = asyncio.create_task(_watch(suite, seen, began))
        await asyncio.gather(*asking)
        watching.cancel()
    _look(suite, seen, began)
    return _judge(suite, seen)


async def _ask(
    suite: Suite,
    session: aiohttp.ClientSession,
    person: Chatter,
    number: int,
    seen: Seen,
    plan: Plan,
    began: float,
) -> None:
    """One session's turns, one after the other, at its own pace."""
    every = plan.sessions / plan.per_second
    next_at = began + number / plan.per_second
    # A session of its own: a socket hears every answer of a session, and nobody reads them here
    # between its turns.
    session_id = await _a_session(suite, session, person)
    async with a_device(suite.url, person.token) as device:
        for way in itertools.islice(itertools.cycle(plan.ways), number % len(plan.ways), None):
            await asyncio.sleep(max(0.0, next_at - time.perf_counter()))
            if time.perf_counter() > began + plan.seconds:
                return
            next_at = max(next_at + every, time.perf_counter())
            try:
                failure = await _turn(way, session, device, session_id, person, seen)
            except (aiohttp.ClientError, TimeoutError) as error:
                failure = type(error).__name__
            except ConnectionClosed as closed:
                seen.failures[f"socket closed: {closed.rcvd or closed}"] += 1
                return
            seen.turns[way] += 1
            if failure:
                seen.failures[f"{way}: {failure}"] += 1


async def _a_session(suite: Suite, session: aiohttp.ClientSession, person: Chatter) -> str:
    headers = {"authorization": f"Bearer {person.token}"}
    async with session.post(f"{suite.url}/chat/sessions", json={}, headers=headers) as answer:
        return str((await answer.json())["id"])


async def _turn(
    way: str,
    session: aiohttp.ClientSession,
    device: SocketDevice,
    session_id: str,
    person: Chatter,
    seen: Seen,
) -> str:
    if way == "stream":
        stream = await read_stream(session, person, PACE.prompt)
        seen.lost += PACE.frames - len(stream.frames)
        seen.streams.append(stream.frames)
        return stream.failure or ("" if stream.ended_well else "no end")
    if way == "socket":
        return await _by_socket(device, session_id, seen)
    headers = {"authorization": f"Bearer {person.token}"}
    async with session.post(person.url, json={"content": "soak"}, headers=headers) as answer:
        await answer.read()
        return "" if answer.status == 200 else f"status {answer.status}"


async def _by_socket(device: SocketDevice, session_id: str, seen: Seen) -> str:
    await device.say("send", session_id=session_id, content=PACE.prompt, stream=True)
    frames: list[float] = []
    while True:
        event = await device.next()
        # It remembers all that it hears, which is for tests.
        device.heard.clear()
        name = event["event"]
        if name == "delta":
            frames.append(time.perf_counter())
        elif name in {"done", "error", "interrupted"}:
            seen.lost += PACE.frames - len(frames)
            seen.streams.append(frames)
            return "" if name == "done" else json.dumps(event.get("data"))[:200]


async def _watch(suite: Suite, seen: Seen, began: float) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        _look(suite, seen, began)


def _look(suite: Suite, seen: Seen, began: float) -> None:
    resident = Meter({"chat": pids_of(suite)["chat"]}).resident()["chat"] / 2**20
    now = time.perf_counter() - began
    seen.memory.append((now, resident))
    print(f"{now:5.0f} s: chat {resident:.1f} MiB, {sum(seen.turns.values())} turns", flush=True)


def _judge(suite: Suite, seen: Seen) -> int:
    step = vendors_step(suite, PACE)
    late = sum(
        at - n * step - min(a - m * step for m, a in enumerate(frames)) > LATE_SECONDS
        for frames in seen.streams
        for n, at in enumerate(frames)
    )
    settled = seen.memory[int(len(seen.memory) * WARM_UP) :]
    slope = slope_of(settled) * 60
    print(
        f"\n{dict(seen.turns)} turns, failed: {dict(seen.failures) or 'none'}; frames lost: "
        f"{seen.lost}, late: {late} of {sum(map(len, seen.streams))}; the vendor wrote one each "
        f"{step * 1000:.1f} ms; memory grew by {slope:.2f} MiB a minute after the warm-up."
    )
    return int(bool(seen.failures or seen.lost or slope > STEEPEST_MIB_A_MINUTE))


def slope_of(points: Sequence[tuple[float, float]]) -> float:
    """By least squares, per unit of the first of each pair; 0 for fewer than two."""
    if len(points) < 2:
        return 0.0
    middle = sum(x for x, _ in points) / len(points)
    level = sum(y for _, y in points) / len(points)
    across = sum((x - middle) ** 2 for x, _ in points)
    return sum((x - middle) * (y - level) for x, y in points) / across if across else 0.0


if __name__ == "__main__":
    main()
