"""Puts an answer on the wire, at the pace and with the accidents that were asked for."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web

from tests.support.simulator import connections
from tests.support.simulator.call import Call
from tests.support.simulator.refusals import Refused
from tests.support.simulator.stamps import stamped

_STALL_MS: Final = 600_000


@dataclass(frozen=True, slots=True)
class Frames:
    """An answer cut into what is written at once; only the middle part is paced and counted."""

    opening: bytes
    middle: Sequence[bytes]
    closing: bytes
    #: The vendor's error object in the middle of a stream, in the form that a fault names. Audio
    #: has no room for one: there an error is just the end of the bytes.
    failure: Callable[[str], bytes] | None = None


async def whole(call: Call, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """An answer in one piece; accidents happen half-way through its bytes."""
    disruption = call.options.disruption
    if disruption is None and "split" not in call.options:
        await call.pause_before_first_byte()
        call.finish("completed")
        return web.Response(body=body, headers=headers)
    if disruption is not None and disruption.startswith("stream_"):
        raise Refused(call.refusal_of("server_error"))
    half = len(body) // 2
    frames = Frames(body[:half], (), body[half:]) if disruption else Frames(b"", (body,), b"")
    return await stream(call, frames, {**headers, "Content-Length": str(len(body))})


async def stream(call: Call, frames: Frames, headers: Mapping[str, str]) -> web.StreamResponse:
    """An answer in many pieces."""
    asked = time.monotonic()
    await call.pause_before_first_byte()
    response = call.response = web.StreamResponse(headers=headers)
    await response.prepare(call.request)
    if "stamped" in call.options:
        first, *rest = frames.middle
        frames = replace(frames, middle=[stamped(first, asked), *rest])
    if frames.opening:
        await response.write(frames.opening)
    if not await _Middle(call, response, frames).written():
        return response
    if frames.closing:
        await response.write(frames.closing)
    await response.write_eof()
    call.finish("completed")
    return response


class _Middle:
    """The part of a stream where things take time and go wrong."""

    def __init__(self, call: Call, response: web.StreamResponse, frames: Frames) -> None:
        self._call = call
        self._response = response
        self._frames = frames
        self._served = call.served
        self._delay = call.options.seconds("chunk_delay_ms")
        self._write = self._write_split if "split" in call.options else response.write

    async def written(self) -> bool:
        """False when the answer ended here."""
        middle, delay = self._frames.middle, self._delay
        fateful = self._fateful_position()
        for position, frame in enumerate(middle):
            if position == fateful and not await self._disrupt():
                return False
            if delay and position:
                await asyncio.sleep(delay)
            await self._write(frame)
            if self._served is not None:
                self._served.chunks += 1
        return fateful < len(middle) or await self._disrupt()

    def _fateful_position(self) -> float:
        """After how many pieces the accident happens; past the last one means before the end."""
        length = len(self._frames.middle)
        if self._call.options.disruption is None:
            return -1
        return min(self._call.options.number("at", length // 2), length)

    async def _write_split(self, frame: bytes) -> None:
        first, rest = halves(frame)
        await self._response.write(first)
        await asyncio.sleep(connections.GAP_SECONDS)
        await self._response.write(rest)

    async def _disrupt(self) -> bool:
        """Let the accident happen; true when the answer goes on after it."""
        kind = self._call.options.disruption
        if kind is None:
            return True
        if kind == "stall":
            await asyncio.sleep(self._call.options.seconds("stall_ms", _STALL_MS))
            return True
        if kind.startswith("stream_") and self._frames.failure is not None:
            await self._response.write(self._frames.failure(kind))
            await self._response.write_eof()
            self._call.finish("error")
            return False
        self._call.finish("cut")
        await self._end(kind)
        return False

    async def _end(self, kind: str) -> None:
        if kind == "truncate" and "Content-Length" not in self._response.headers:
            await self._response.write_eof()
        elif kind == "reset":
            await connections.reset(self._call.request)
        else:
            await connections.hang_up(self._call.request)


def halves(frame: bytes) -> tuple[bytes, bytes]:
    """Two parts, divided inside the first character of several bytes if there is one."""
    for position, byte in enumerate(frame):
        if byte >= 0xC0:
            return frame[: position + 1], frame[position + 1 :]
    return frame[: len(frame) // 2], frame[len(frame) // 2 :]
