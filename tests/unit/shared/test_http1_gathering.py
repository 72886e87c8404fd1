"""Pieces of an answer that wait for each other: which do, until when, and what never does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from shared.clients.beat import Beat
from shared.clients.http1 import Answer, ConnectionLost, Http1Pool

SOON = 10.0
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
# Far more than goes by itself, far less than what makes the other side wait.
A_BURST = 100_000


class ByHand(Beat):
    """Beats when it is told to. Unless said otherwise, whatever comes comes soon after the last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float = 3600.0) -> None:
        super().__init__(loop, seconds)
        self.waiting: list[Callable[[], None]] = []
        self.held = asyncio.Event()

    def wait(self, call: Callable[[], None]) -> None:
        self.waiting.append(call)
        self.held.set()

    def beat(self) -> None:
        waiting, self.waiting = self.waiting, []
        self.held.clear()
        for call in waiting:
            call()


@dataclass
class Peer:
    """The other side, with one connection at a time."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    asked: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(HEAD)
                self.asked.put_nowait(None)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def say(self, *pieces: bytes, then: bytes = b"") -> None:
        chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
        self.writers[-1].write(b"".join(chunks) + then)


@dataclass
class Line:
    """A pool whose beat is ours, and an answer under way of which the first piece was read."""

    pool: Http1Pool
    beat: ByHand
    peer: Peer
    answer: Answer

    async def another(self) -> Answer:
        return await self.pool.request("GET", "/x", {}, head_within=SOON)

    async def hold(self, *pieces: bytes) -> None:
        """Say pieces that are held, the first of them beyond doubt."""
        self.peer.say(*pieces)
        await asyncio.wait_for(self.beat.held.wait(), SOON)


def is_no_hurry(piece: bytes) -> bool:
    return b"!" not in piece


async def read(answer: Answer, *, gather: bool = True) -> bytes:
    return await answer.read_some(within=SOON, gather=is_no_hurry if gather else None)


@asynccontextmanager
async def a_line(seconds: float = 3600.0) -> AsyncIterator[Line]:
    peer = Peer()
    listener = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    pool = Http1Pool("127.0.0.1", listener.sockets[0].getsockname()[1], gather=seconds)
    pool.beat = beat = ByHand(pool.loop, seconds)
    try:
        answer = await pool.request("GET", "/x", {}, head_within=SOON)
        peer.say(b"first")
        assert await read(answer, gather=False) == b"first"
        yield Line(pool, beat, peer, answer)
    finally:
        await pool.close()
        listener.close()


async def test_what_comes_soon_after_the_last_goes_together() -> None:
    async with a_line() as line:
        reading = asyncio.ensure_future(read(line.answer))
        await asyncio.sleep(0)
        await line.hold(b"a")
        line.peer.say(b"b", b"c")
        while line.answer._unread < len(b"abc"):
            await asyncio.sleep(0.005)
        assert not reading.done()
        line.beat.beat()
        assert await reading == b"abc"


async def test_the_first_of_an_answer_goes_at_once() -> None:
    async with a_line() as line:
        line.peer.say(b"last", then=END)
        assert await read(line.answer, gather=False) == b"last"
        assert await read(line.answer, gather=False) == b""
        line.answer.leave(in_peace=True)
        answer = await line.another()
        assert len(line.peer.writers) == 1  # on the same connection
        line.peer.say(b"first")
        assert await read(answer, gather=False) == b"first"
        assert not line.beat.waiting


async def test_what_comes_after_a_pause_goes_at_once() -> None:
    async with a_line(seconds=0.01) as line:
        reading = asyncio.ensure_future(read(line.answer))
        await asyncio.sleep(0.1)
        line.peer.say(b"later")
        assert await reading == b"later"
        assert not line.beat.waiting


async def test_the_end_brings_what_was_held() -> None:
    async with a_line() as line:
        reading = asyncio.ensure_future(read(line.answer))
        await asyncio.sleep(0)
        await line.hold(b"a")
        line.peer.say(b"b", then=END)
        assert await reading == b"ab"
        assert await read(line.answer) == b""
        line.beat.beat()  # too late for anything


async def test_what_is_in_a_hurry_takes_what_was_held_along() -> None:
    async with a_line() as line:
        reading = asyncio.ensure_future(read(line.answer))
        await asyncio.sleep(0)
        await line.hold(b"a")
        line.peer.say(b"b!")
        assert await reading == b"ab!"


async def test_a_cut_answer_tells_first_what_was_held() -> None:
    async with a_line() as line:
        reading = asyncio.ensure_future(read(line.answer))
        await asyncio.sleep(0)
        await line.hold(b"a")
        line.peer.writers[-1].transport.abort()
        assert await reading == b"a"
        with pytest.raises(ConnectionLost):
            await read(line.answer)


async def test_a_reader_that_gathers_no_more_has_what_was_held() -> None:
    async with a_line() as line:
        reading = asyncio.ensure_future(read(line.answer))
        await asyncio.sleep(0)
        await line.hold(b"a")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert await read(line.answer, gather=False) == b"a"


async def test_nobody_waits_who_did_not_ask_to() -> None:
    async with a_line() as line:
        for piece in (b"a", b"b", b"c"):
            line.peer.say(piece)
            assert await read(line.answer, gather=False) == piece
        assert not line.beat.waiting


async def test_much_at_once_waits_for_nothing() -> None:
    async with a_line() as line:
        reading = asyncio.ensure_future(read(line.answer))
        await asyncio.sleep(0)
        line.peer.say(b"x" * A_BURST)
        said = await reading
        assert len(said) > A_BURST // 2
        assert said == b"x" * len(said)


async def test_who_leaves_leaves_what_was_held_and_the_beat_finds_nothing() -> None:
    async with a_line() as line:
        reading = asyncio.ensure_future(read(line.answer))
        await asyncio.sleep(0)
        await line.hold(b"a")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        line.answer.leave(in_peace=False)
        answer = await line.another()
        line.beat.beat()
        line.peer.say(b"b")
        assert await read(answer) == b"b"


async def test_without_a_span_nothing_waits() -> None:
    async with a_line() as line:
        pool = Http1Pool("127.0.0.1", 9)
        assert pool.beat is None
        line.pool.beat = None
        for piece in (b"a", b"b"):
            line.peer.say(piece)
            assert await read(line.answer) == piece


async def test_the_beat_calls_all_who_wait_and_those_who_come_later_at_the_next_one() -> None:
    beat = Beat(asyncio.get_running_loop(), 0.01)
    called: list[str] = []
    again = asyncio.Event()

    def first() -> None:
        called.append("first")
        beat.wait(again.set)

    beat.wait(first)
    beat.wait(lambda: called.append("second"))
    assert called == []
    await asyncio.wait_for(again.wait(), SOON)
    assert called == ["first", "second"]
