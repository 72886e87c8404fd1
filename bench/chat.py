"""What chat alone costs, with nothing around it but its database and its cache.

    python -m bench.chat [--beside CHECKOUT] [--beside-set NAME=VALUE] [--beside-python PYTHON]

A whole chat runs as a process of its own; in place of the egress stands a server that answers at
once, or says its pieces at a steady pace. With `--beside`, another checkout's chat is measured in
alternating rounds of the same run, on the same engines: what differs is chat. `--beside-set` gives
the one beside another setting, `--beside-python` another interpreter; without `--beside` it is this
checkout's then.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import cast
from uuid import uuid4

import httptools
import httpx
import uvloop

from bench.processes import OURS, Meter, ServiceProcess, service_process
from deploy.companion.ports import free_port
from shared.db.migrations import upgrade
from shared.settings import service_database_url
from tests.support.engines import running_postgres, running_valkey
from tests.support.sessions import know_ended_sessions
from tests.support.tokens import TokenMint, write_identities

_USERS = 200
_FLOODERS = 20
_REFUSED = "refused, 16 in flight"
_MARK = b"x-egress-detail: via_upstream\r\n"
_CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"service_tier":"default","choices":[{"index":0,"delta":{"content":"%s"},'
    b'"finish_reason":null}],"usage":null}\n\n'
)
_LAST = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":64,"total_tokens":73}}\n\n'
    b"data: [DONE]\n\n"
)
_WHOLE = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"What was asked for."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}'
)
_JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + _MARK
_SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n" + _MARK
)


def _chunked(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


@dataclass(frozen=True, slots=True)
class _Pace:
    """How an answer is streamed."""

    frames: int
    step_seconds: float

    @property
    def seconds(self) -> float:
        return self.frames * self.step_seconds


class _Vendor(asyncio.Protocol):
    """Answers any call; pieces of a stream are written when they are due, whatever came before."""

    def __init__(self, pace: _Pace) -> None:
        self._pace = pace
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._body = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        if b'"stream":true' not in body:
            self._transport.write(_JSON_HEAD + b"content-length: %d\r\n\r\n" % len(_WHOLE) + _WHOLE)
            return
        self._transport.write(_SSE_HEAD + b"\r\n")
        self._say(0, asyncio.get_running_loop().time())

    def _say(self, number: int, due: float) -> None:
        if number == self._pace.frames:
            self._transport.write(_chunked(_LAST) + b"0\r\n\r\n")
            return
        self._transport.write(_chunked(_CHUNK % (b" word%d" % number)))
        due += self._pace.step_seconds
        self._timer = asyncio.get_running_loop().call_at(due, self._say, number + 1, due)


def _serve_vendor(port: int, cores: Sequence[int], pace: _Pace) -> None:
    os.sched_setaffinity(0, cores)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Vendor(pace), "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(serve())


@dataclass(slots=True)
class _Asked:
    """One call of the client's: when its pieces came."""

    first_byte: float = 0.0
    seconds: float = 0.0
    status: int = 0
    frames: list[float] = field(default_factory=list)
    ended_well: bool = False


class _Client(asyncio.Protocol):
    """A client's connection, which asks one thing after another and costs little."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._asked = _Asked()
        self._began = 0.0
        self._whole: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def ask(self, request: bytes) -> _Asked:
        asked = self._asked = _Asked()
        self._whole = self._loop.create_future()
        self._began = time.perf_counter()
        self._transport.write(request)
        await self._whole
        asked.seconds = time.perf_counter() - self._began
        return asked

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        asked, now = self._asked, time.perf_counter()
        asked.first_byte = asked.first_byte or now - self._began
        if deltas := data.count(b"event: delta\n"):
            asked.frames += [now] * deltas
        asked.ended_well = asked.ended_well or b"event: done\n" in data
        self._parser.feed_data(data)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._whole is not None and not self._whole.done():
            self._whole.set_result(None)

    def on_message_complete(self) -> None:
        self._asked.status = self._parser.get_status_code()
        if self._whole is not None and not self._whole.done():
            self._whole.set_result(None)


@dataclass(frozen=True, slots=True)
class _Measured:
    """One round: CPU-ms a turn, and what the client saw."""

    cpu_ms: float
    seconds: float
    calls: Sequence[_Asked]

    def percentile_ms(self, which: float, of: Callable[[_Asked], float]) -> float:
        values = sorted(of(call) for call in self.calls)
        return values[min(len(values) - 1, int(which * len(values)))] * 1000


@dataclass(frozen=True, slots=True)
class _Plan:
    """How much is measured."""

    rounds: int
    turns: int
    at_once: Sequence[int]
    streams: int
    pace: _Pace


@dataclass(frozen=True, slots=True)
class _Beside:
    """The other chat, if there is one: its checkout, and what is set for it alone."""

    checkout: Path | None
    settings: Mapping[str, str]
    python: str | None

    def __bool__(self) -> bool:
        return bool(self.checkout or self.settings or self.python)


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.chat", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=800, help="a round; 0 for none")
    parser.add_argument("--at-once", type=int, nargs="*", default=[16])
    parser.add_argument("--streams", type=int, default=100, help="at once; 0 for none")
    parser.add_argument("--frames", type=int, default=64, help="of a stream")
    parser.add_argument("--step-ms", type=float, default=20, help="between two of them")
    parser.add_argument("--beside", type=Path, help="another checkout to measure in the same run")
    parser.add_argument("--beside-set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--beside-python", help="of an environment with the same packages")
    arguments = parser.parse_args()
    pace = _Pace(arguments.frames, arguments.step_ms / 1000)
    plan = _Plan(arguments.rounds, arguments.turns, arguments.at_once, arguments.streams, pace)
    settings = dict(pair.split("=", 1) for pair in arguments.beside_set)
    beside = _Beside(arguments.beside, settings, arguments.beside_python)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with running_postgres(Path(folder)) as postgres, running_valkey(Path(folder)) as valkey:
            postgres.create_database("companion_chat")
            upgrade("chat", service_database_url(postgres.url, "chat"))
            engines = {"DATABASE_URL": postgres.url, "CACHE_URL": valkey.url}
            print(uvloop.run(_all(Path(folder), engines, plan, beside)))


async def _all(folder: Path, engines: Mapping[str, str], plan: _Plan, beside: _Beside) -> str:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)
    write_identities(folder)
    await know_ended_sessions(engines["CACHE_URL"])
    mint, vendor_port = TokenMint(), free_port()
    vendor = multiprocessing.get_context("spawn").Process(
        target=_serve_vendor, args=(vendor_port, cores[1:] or cores, plan.pace), daemon=True
    )
    vendor.start()
    async with mint.served() as jwks_url:
        environment = {
            **os.environ,
            **engines,
            "BROKER_URL": engines["CACHE_URL"],
            "JWKS_URL": jwks_url,
            "IDENTITY_KEY_FILE": str(folder / "chat.pem"),
            "IDENTITY_TRUST_FILE": str(folder / "trusted.json"),
            "EGRESS_URL": f"http://127.0.0.1:{vendor_port}",
            "LOG_LEVEL": "info",  # its line is a part of what a turn costs
            # Rounds are to be alike, whatever was said before.
            "CHAT_HISTORY_TOKENS": "1000",
        }
        with ExitStack() as stack:
            chats = [
                stack.enter_context(service_process("chat", "ours", OURS, environment, cores[:1]))
            ]
            if beside:
                at, its_own = beside.checkout or OURS, {**environment, **beside.settings}
                python = beside.python or sys.executable
                other = service_process("chat", "beside", at, its_own, cores[:1], python)
                chats.insert(0, stack.enter_context(other))
            report = await _measured(chats, mint, plan)
    vendor.terminate()
    return report


async def _requests(
    chat: ServiceProcess, mint: TokenMint, body: bytes, number: int, tier: str = "enterprise"
) -> list[bytes]:
    """A request of each user, who has a session of their own."""
    found = []
    base = f"http://127.0.0.1:{chat.port}"
    async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=30) as client:
        for _ in range(number):
            headers = mint.headers(uuid4(), tier=tier)
            session = await client.post("/chat/sessions", json={}, headers=headers)
            session.raise_for_status()
            head = (
                f"POST /chat/sessions/{session.json()['id']}/messages HTTP/1.1\r\n"
                f"host: chat\r\nauthorization: {headers['authorization']}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
                f"x-request-id: {uuid4()}\r\n"
                "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
            )
            found.append(head.encode() + body)
    return found


async def _measured(chats: Sequence[ServiceProcess], mint: TokenMint, plan: _Plan) -> str:
    json_body, stream_body = b'{"content":"bench"}', b'{"content":"bench","stream":true}'
    rows: dict[tuple[str, str], list[_Measured]] = {}
    whole: dict[str, Iterator[bytes]] = {}
    streamed: dict[str, list[bytes]] = {}
    flood: dict[str, Iterator[bytes]] = {}
    for chat in chats:
        free = await _requests(chat, mint, json_body, _FLOODERS, tier="free")
        flood[chat.name] = itertools.cycle(free)
        whole[chat.name] = itertools.cycle(await _requests(chat, mint, json_body, _USERS))
        streamed[chat.name] = await _requests(chat, mint, stream_body, plan.streams)
        await _ask_all(chat, whole[chat.name], 200, 8)
    for number in range(plan.rounds):
        print(f"round {number + 1} of {plan.rounds} ...", file=sys.stderr)
        order = chats if number % 2 else chats[::-1]
        for at_once in plan.at_once if plan.turns else ():
            for chat in order:
                found = await _ask_all(chat, whole[chat.name], plan.turns, at_once)
                rows.setdefault((f"{at_once} in flight", chat.name), []).append(found)
        for chat in order if plan.turns else ():
            # Each of them may ask five times a minute.
            await _ask_all(chat, flood[chat.name], 6 * _FLOODERS, 8)
            found = await _ask_all(chat, flood[chat.name], plan.turns, 16)
            rows.setdefault((_REFUSED, chat.name), []).append(found)
        for chat in order if plan.streams else ():
            found = await _stream_all(chat, streamed[chat.name], plan.pace)
            rows.setdefault((f"{plan.streams} streams", chat.name), []).append(found)
    return _report(rows, plan.pace)


async def _connected(chat: ServiceProcess, number: int) -> list[_Client]:
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Client(loop), "127.0.0.1", chat.port)
        for _ in range(number)
    ]
    return [client for _, client in made]


async def _ask_all(
    chat: ServiceProcess, requests: Iterator[bytes], number: int, at_once: int
) -> _Measured:
    clients, left, calls = await _connected(chat, at_once), iter(range(number)), list[_Asked]()
    gc.collect()
    meter, began = Meter({"chat": chat.pid}), time.perf_counter()

    async def one(client: _Client) -> None:
        for _ in left:
            calls.append(await client.ask(next(requests)))

    await asyncio.gather(*map(one, clients))
    seconds = time.perf_counter() - began
    spent = meter.spent()["chat"]
    for client in clients:
        client.close()
    return _Measured(spent * 1000 / number, seconds, calls)


async def _stream_all(chat: ServiceProcess, requests: Sequence[bytes], pace: _Pace) -> _Measured:
    clients = await _connected(chat, len(requests))
    gc.collect()
    meter, began = Meter({"chat": chat.pid}), time.perf_counter()

    async def one(number: int, client: _Client, request: bytes) -> _Asked:
        # Spread over the length of an answer: users don't ask in step.
        await asyncio.sleep(pace.seconds * number / len(requests))
        return await client.ask(request)

    pairs = zip(clients, requests, strict=True)
    calls = await asyncio.gather(*(one(number, *pair) for number, pair in enumerate(pairs)))
    seconds = time.perf_counter() - began
    spent = meter.spent()["chat"]
    for client in clients:
        client.close()
    return _Measured(spent * 1000 / len(requests), seconds, calls)


def _lateness(call: _Asked, pace: _Pace) -> Iterator[float]:
    late = [at - n * pace.step_seconds for n, at in enumerate(call.frames)]
    return (at - min(late) for at in late)


def _report(rows: Mapping[tuple[str, str], Sequence[_Measured]], pace: _Pace) -> str:
    lines = [
        "",
        "| | chat | failed | a second | CPU-ms a turn (least) | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    streams = []
    for (what, name), runs in rows.items():
        calls = [call for run in runs for call in run.calls]
        well = 429 if what == _REFUSED else 200
        failed = Counter(call.status for call in calls if call.status != well)
        rate = median(len(run.calls) / run.seconds for run in runs)
        p50 = median(run.percentile_ms(0.5, lambda c: c.seconds) for run in runs)
        p99 = median(run.percentile_ms(0.99, lambda c: c.seconds) for run in runs)
        cpu = [run.cpu_ms for run in runs]
        lines.append(
            f"| {what} | {name} | {dict(failed) or 0} | {rate:.0f} | {median(cpu):.3f} "
            f"({min(cpu):.3f}) | {p50:.1f} | {p99:.1f} |"
        )
        if what.endswith("streams"):
            frames = sum(len(call.frames) for call in calls)
            late = [at for call in calls for at in _lateness(call, pace)]
            first = median(run.percentile_ms(0.99, lambda c: c.first_byte) for run in runs)
            spent = sum(run.cpu_ms * len(run.calls) for run in runs) * 1000 / max(1, frames)
            streams.append(
                f"{what}, {name}: {spent:.0f} CPU-µs a frame with a part of its turn, first byte "
                f"p99 {first:.1f} ms, {len(calls) * pace.frames - frames} frames lost, "
                f"{sum(at > 0.1 for at in late)} late, the latest by {max(late) * 1000:.0f} ms."
            )
    return "\n".join([*lines, "", *streams])


if __name__ == "__main__":
    main()
