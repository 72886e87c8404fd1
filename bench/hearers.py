"""Hearers: clients that cost little, and tell the way to a vendor from the way back.

They read the times that a vendor wrote into the beginning of its audio; see
`tests/support/simulator/stamps.py`. All clocks are the machine's monotonic one.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

from bench.load import NextCall, Outcome
from tests.support.simulator.stamps import STAMP_BYTES, stamps_of


@dataclass(slots=True)
class Heard:
    """One speech as its hearer saw it, in seconds. `status` 0: it was cut off."""

    status: int = 0
    to_vendor: float = 0.0
    from_vendor: float = 0.0
    first: float = 0.0
    whole: float = 0.0
    size: int = 0
    reads: int = 0


class Hearer(asyncio.Protocol):
    """A connection that asks one thing after another."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_closed = False
        self._loop = loop
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._heard = Heard()
        self._began = 0.0
        self._begun = b""
        self._whole: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def ask(self, request: bytes) -> Heard:
        """One speech, heard to its end."""
        heard = self._heard = Heard()
        self._begun = b""
        self._whole = self._loop.create_future()
        self._began = time.monotonic()
        self._transport.write(request)
        await self._whole
        return heard

    def close(self) -> None:
        """Nothing more is asked."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        heard, now = self._heard, time.monotonic()
        heard.size += len(body)
        heard.reads += 1
        if not heard.first:
            heard.first = now - self._began
        if heard.from_vendor or self._parser.get_status_code() != 200:
            return
        self._begun += body[:STAMP_BYTES]
        if len(self._begun) >= STAMP_BYTES:
            asked, sent = stamps_of(self._begun)
            heard.to_vendor, heard.from_vendor = asked - self._began, now - sent

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_closed = True
        if self._whole is not None and not self._whole.done():
            self._whole.set_result(None)

    def on_message_complete(self) -> None:
        self._heard.whole = time.monotonic() - self._began
        self._heard.status = self._parser.get_status_code()
        if self._whole is not None and not self._whole.done():
            self._whole.set_result(None)


async def hearers(number: int, port: int, host: str = "127.0.0.1") -> list[Hearer]:
    """So many, connected."""
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Hearer(loop), host, port) for _ in range(number)]
    return [hearer for _, hearer in made]


@dataclass(slots=True)
class HeardOutcome(Outcome):
    """What came of a run whose vendor stamps its audio, in seconds."""

    to_vendor: list[float] = field(default_factory=list)
    from_vendor: list[float] = field(default_factory=list)


async def heard_at_rate(next_call: NextCall, *, requests: int, per_second: float) -> HeardOutcome:
    """Begin speeches at a steady rate. Who hears one has a connection before asking for it."""
    origin = urlsplit(next_call().url)
    free = await hearers(1, origin.port or 80, origin.hostname or "")
    outcome, every = HeardOutcome(), list(free)
    gc.collect()

    async def one() -> None:
        hearer = free.pop() if free else None
        if hearer is None or hearer.is_closed:
            (hearer,) = await hearers(1, origin.port or 80, origin.hostname or "")
            every.append(hearer)
        _note(outcome, await hearer.ask(_request(next_call)))
        free.append(hearer)

    began = time.monotonic()
    tasks = []
    for number in range(requests):
        await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)
    outcome.seconds = time.monotonic() - began
    for hearer in every:
        hearer.close()
    return outcome


def _note(outcome: HeardOutcome, heard: Heard) -> None:
    outcome.reads += heard.reads
    if heard.status != 200:
        outcome.failures.append(f"status {heard.status}" if heard.status else "cut off")
        return
    outcome.first_bytes.append(heard.first)
    outcome.latencies.append(heard.whole)
    outcome.to_vendor.append(heard.to_vendor)
    outcome.from_vendor.append(heard.from_vendor)


def _request(next_call: NextCall) -> bytes:
    call = next_call()
    parts = urlsplit(call.url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return request_bytes(target, parts.netloc, call.headers, call.body)


def request_bytes(target: str, host: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A POST as it is sent."""
    lines: Sequence[str] = (
        f"POST {target} HTTP/1.1",
        f"host: {host}",
        "accept: */*",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "\r\n",
    )
    return "\r\n".join(lines).encode() + body
