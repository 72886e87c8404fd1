"""Hearers tell the way to a vendor from the way back, and how many were told nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.hearers import heard_at_rate
from bench.load import Call, NextCall
from tests.support.simulator.stamps import stamped

_LATE_SECONDS = 0.1
_AUDIO = bytes(4_096)


class Vendor:
    """Is asked late, sends at once what arrives late, or does what `how` says."""

    def __init__(self, how: str) -> None:
        self._how = how

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"POST /say?loud=yes HTTP/1.1\r\n")
                assert await reader.readexactly(4) == b"text"
                await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        if self._how == "refused":
            writer.write(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno")
            return
        if self._how == "late to ask":
            await asyncio.sleep(_LATE_SECONDS)
        piece = stamped(_AUDIO, time.monotonic())
        assert len(piece) == len(_AUDIO)
        if self._how == "late to come":
            await asyncio.sleep(_LATE_SECONDS)
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(piece)
        # The stamps themselves may come in two.
        writer.write(head + piece[:3])
        await writer.drain()
        await asyncio.sleep(0.01)
        if self._how == "cut":
            writer.close()
            return
        writer.write(piece[3:])


@asynccontextmanager
async def a_vendor(how: str) -> AsyncIterator[NextCall]:
    server = await asyncio.start_server(Vendor(how).serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield lambda: Call(f"http://127.0.0.1:{port}/say?loud=yes", b"text", {"x-a": "b"})
    finally:
        server.close()


@pytest.mark.parametrize("how", ["late to ask", "late to come"])
async def test_the_way_there_is_told_from_the_way_back(how: str) -> None:
    async with a_vendor(how) as next_call:
        outcome = await heard_at_rate(next_call, requests=3, per_second=50)
    assert (outcome.done, outcome.failures) == (3, [])
    late, other = (
        (outcome.to_vendor, outcome.from_vendor)
        if how == "late to ask"
        else (outcome.from_vendor, outcome.to_vendor)
    )
    assert min(late) >= _LATE_SECONDS
    assert min(other) > 0
    both = [sum(ways) for ways in zip(outcome.to_vendor, outcome.from_vendor, strict=True)]
    assert all(whole >= ways for whole, ways in zip(outcome.latencies, both, strict=True))
    assert min(outcome.first_bytes) >= _LATE_SECONDS


@pytest.mark.parametrize(("how", "told"), [("refused", "status 503"), ("cut", "cut off")])
async def test_what_does_not_come_whole_is_a_failure_and_no_time(how: str, told: str) -> None:
    async with a_vendor(how) as next_call:
        outcome = await heard_at_rate(next_call, requests=2, per_second=50)
    assert (outcome.failures, outcome.done, outcome.from_vendor) == ([told, told], 0, [])
