"""What voice alone costs, with nothing around it but its database and its cache.

    python -m bench.voice_alone [--beside CHECKOUT]

A whole voice runs as a process of its own; in place of the egress stands a server that answers at
once, or says its pieces at a steady pace. It writes into its audio when it was asked and when it
sent the first byte, so that the two ways are told apart: from the hearer to the vendor, and from
the vendor back. With `--beside`, another checkout's voice is measured in alternating rounds of the
same run, on the same engines: what differs is voice.
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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import cast
from uuid import uuid4

import httptools
import uvloop

from bench.hearers import Heard, Hearer, hearers, request_bytes
from bench.processes import OURS, Meter, ServiceProcess, service_process
from deploy.companion.ports import free_port
from shared.db.migrations import upgrade
from shared.settings import service_database_url
from tests.support.engines import running_postgres, running_valkey
from tests.support.sessions import know_ended_sessions
from tests.support.simulator.stamps import stamped
from tests.support.tokens import TokenMint, write_identities

_USERS = 150  # the largest tier has 100 requests a minute each
_AT_ONCE = 16
_PIECES = 100
_STEP_SECONDS = 0.05
_PIECE = b"\x01\x02" * 2_048
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: audio/pcm\r\nx-egress-detail: via_upstream\r\n"
    b"character-cost: 20\r\nrequest-id: bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
_SHORT, _PACED = "Of a word, at once.", "Of a text, as it is spoken."
# What a run may take beside what it has to; a process that hangs ends it.
_SPARE_SECONDS = 60.0


def _chunked(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


class _Vendor(asyncio.Protocol):
    """Says a piece to whoever asks; to some, further ones when they are due."""

    def __init__(self) -> None:
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
        body, self._body, asked = self._body, b"", time.monotonic()
        if _PACED.encode() in body:
            loop = asyncio.get_running_loop()
            due = loop.time() + _STEP_SECONDS
            self._timer = loop.call_at(due, self._begin, asked, due)
        else:
            self._first(asked)
            self._transport.write(b"0\r\n\r\n")

    def _first(self, asked: float) -> None:
        self._transport.write(_HEAD + _chunked(stamped(_PIECE, asked)))

    def _begin(self, asked: float, due: float) -> None:
        self._first(asked)
        self._say(1, due)

    def _say(self, number: int, due: float) -> None:
        if number > 1:
            self._transport.write(_chunked(_PIECE))
        if number == _PIECES:
            self._transport.write(b"0\r\n\r\n")
            return
        due += _STEP_SECONDS
        self._timer = asyncio.get_running_loop().call_at(due, self._say, number + 1, due)


def _serve_vendor(port: int, cores: Sequence[int]) -> None:
    os.sched_setaffinity(0, cores)

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Vendor, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(serve())


@dataclass(frozen=True, slots=True)
class _Measured:
    """One round: CPU-ms a speech, and what its hearers saw."""

    cpu_ms: float
    calls: Sequence[Heard]

    def percentile_ms(self, which: float, of: Callable[[Heard], float]) -> float:
        values = sorted(of(call) for call in self.calls if call.status == 200)
        return values[min(len(values) - 1, int(which * len(values)))] * 1000 if values else 0.0


@dataclass(frozen=True, slots=True)
class _Plan:
    """How much is measured."""

    rounds: int
    speeches: int
    paced: int

    @property
    def seconds(self) -> float:
        """What it has to take, for one voice."""
        return self.rounds * (self.speeches / 100 + 2 * _PIECES * _STEP_SECONDS)


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.voice_alone", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--speeches", type=int, default=600, help="a round, of one piece")
    parser.add_argument("--paced", type=int, default=50, help="at once, of 100 pieces; 0 for none")
    parser.add_argument("--beside", type=Path, help="another checkout to measure in the same run")
    given = parser.parse_args()
    plan = _Plan(given.rounds, given.speeches, given.paced)
    with tempfile.TemporaryDirectory() as folder, engines_for_voice(Path(folder)) as engines:
        print(uvloop.run(_all(engines, plan, given.beside)))


@contextmanager
def engines_for_voice(folder: Path) -> Iterator[Mapping[str, str]]:
    """PostgreSQL with voice's tables, and Valkey: the variables that name them."""
    folder.chmod(0o755)
    with running_postgres(folder) as postgres, running_valkey(folder) as valkey:
        postgres.create_database("companion_voice")
        upgrade("voice", service_database_url(postgres.url, "voice"))
        write_identities(folder)
        yield {
            "DATABASE_URL": postgres.url,
            "CACHE_URL": valkey.url,
            "BROKER_URL": valkey.url,
            "IDENTITY_KEY_FILE": str(folder / "voice.pem"),
            "IDENTITY_TRUST_FILE": str(folder / "trusted.json"),
            "LOG_LEVEL": "info",  # its line is a part of what a speech costs
        }


async def _all(engines: Mapping[str, str], plan: _Plan, beside: Path | None) -> str:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)
    await know_ended_sessions(engines["CACHE_URL"])
    mint, vendor_port = TokenMint(), free_port()
    vendor = multiprocessing.get_context("spawn").Process(
        target=_serve_vendor, args=(vendor_port, cores[1:] or cores), daemon=True
    )
    vendor.start()
    try:
        async with mint.served() as jwks_url:
            environment = {
                **os.environ,
                **engines,
                "JWKS_URL": jwks_url,
                "EGRESS_URL": f"http://127.0.0.1:{vendor_port}",
            }
            with ExitStack() as stack:
                voices = [
                    stack.enter_context(
                        service_process("voice", "ours", OURS, environment, cores[:1])
                    )
                ]
                if beside:
                    other = service_process("voice", "beside", beside, environment, cores[:1])
                    voices.insert(0, stack.enter_context(other))
                most = len(voices) * plan.seconds + _SPARE_SECONDS
                async with asyncio.timeout(most):
                    return await _measured(voices, mint, plan)
    finally:
        vendor.terminate()


def _requests(mint: TokenMint, text: str, *, keep: bool) -> Iterator[bytes]:
    """Requests of many users in turn."""
    words = '{"text":"%s","voice_id":"21m00Tcm4TlvDq8ikWAM","format":"pcm_44100","cache":%s}'
    body = (words % (text, "true" if keep else "false")).encode()
    made = []
    for _ in range(_USERS):
        token = mint.headers(uuid4(), tier="enterprise")["authorization"]
        headers = {
            "authorization": token,
            "content-type": "application/json",
            "x-request-id": str(uuid4()),
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        }
        made.append(request_bytes("/voice/speech", "voice", headers, body))
    return itertools.cycle(made)


async def _measured(voices: Sequence[ServiceProcess], mint: TokenMint, plan: _Plan) -> str:
    rows: dict[tuple[str, str], list[_Measured]] = {}
    short = {voice.name: _requests(mint, _SHORT, keep=False) for voice in voices}
    again = {voice.name: _requests(mint, _SHORT, keep=True) for voice in voices}
    paced = {voice.name: _requests(mint, _PACED, keep=False) for voice in voices}
    began = time.monotonic()
    for voice in voices:
        await _in_flight(voice, short[voice.name], 200)
        await _in_flight(voice, again[voice.name], 2 * _USERS)
    for number in range(plan.rounds):
        took = time.monotonic() - began
        print(f"round {number + 1} of {plan.rounds}, after {took:.0f} s ...", file=sys.stderr)
        order = voices if number % 2 else voices[::-1]
        for what, requests in (("new", short), ("said before", again)):
            for voice in order:
                found = await _in_flight(voice, requests[voice.name], plan.speeches)
                rows.setdefault((f"{what}, {_AT_ONCE} in flight", voice.name), []).append(found)
        for voice in order if plan.paced else ():
            found = await _paced(voice, paced[voice.name], plan.paced)
            rows.setdefault((f"{plan.paced} paced", voice.name), []).append(found)
    return _report(rows)


async def _in_flight(voice: ServiceProcess, requests: Iterator[bytes], number: int) -> _Measured:
    clients, left, calls = await hearers(_AT_ONCE, voice.port), iter(range(number)), list[Heard]()
    gc.collect()
    meter = Meter({"voice": voice.pid})

    async def one(client: Hearer) -> None:
        for _ in left:
            calls.append(await client.ask(next(requests)))

    await asyncio.gather(*map(one, clients))
    await asyncio.sleep(0.3)  # settlements come after the audio, and belong to it
    spent = meter.spent()["voice"]
    for client in clients:
        client.close()
    return _Measured(spent * 1000 / number, calls)


async def _paced(voice: ServiceProcess, requests: Iterator[bytes], number: int) -> _Measured:
    clients = await hearers(number, voice.port)
    gc.collect()
    meter = Meter({"voice": voice.pid})
    whole = _PIECES * _STEP_SECONDS

    async def one(place: int, client: Hearer) -> Heard:
        # Spread over the length of a speech: hearers don't ask in step.
        await asyncio.sleep(whole * place / number)
        return await client.ask(next(requests))

    calls = await asyncio.gather(*(one(place, client) for place, client in enumerate(clients)))
    await asyncio.sleep(0.3)
    spent = meter.spent()["voice"]
    for client in clients:
        client.close()
    return _Measured(spent * 1000 / number, calls)


def _report(rows: Mapping[tuple[str, str], Sequence[_Measured]]) -> str:
    lines = [
        "",
        "| | voice | failed | CPU-ms a speech (least) | to the vendor p50, p99 ms "
        "| from the vendor p50, p99 ms | whole p50 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for (what, name), runs in rows.items():
        calls = [call for run in runs for call in run.calls]
        failed = Counter(call.status for call in calls if call.status != 200)
        cpu = [run.cpu_ms for run in runs]

        def both(of: Callable[[Heard], float], runs: Sequence[_Measured] = runs) -> str:
            return ", ".join(
                f"{median(run.percentile_ms(which, of) for run in runs):.2f}"
                for which in (0.5, 0.99)
            )

        # What was said before leaves no vendor to be timed.
        is_new = "before" not in what
        to, back = both(lambda c: c.to_vendor), both(lambda c: c.from_vendor)
        p50 = median(run.percentile_ms(0.5, lambda c: c.whole) for run in runs)
        lines.append(
            f"| {what} | {name} | {dict(failed) or 0} | {median(cpu):.3f} ({min(cpu):.3f}) "
            f"| {to if is_new else ''} | {back if is_new else ''} | {p50:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
