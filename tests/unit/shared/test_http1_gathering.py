"""Pieces of an answer that wait for each other: which do, until when, and what never does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

import pytest
import uvloop

from shared.clients.beat import Beat
from shared.clients.http1 import Answer, ConnectionLost, Http1Pool
from shared.clients.polled import Polled

SOON = 10.0
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
# Far more than goes by itself, far less than what makes the other side wait.
A_BURST = 100_000
# What was said is in the socket by then.
A_WHILE = 0.05


class ByHand(Beat):
    """Beats when it is told to. Unless said otherwise, whatever comes comes soon after the last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float = 3600.0) -> None:
        super().__init__(loop, seconds)
        self.waiting: list[Callable[[], None]] = []
        self.crowded = False
        self.held = asyncio.Event()

    @property
    def is_crowded(self) -> bool:
        return self.crowded

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
async def a_line(seconds: float = 3600.0, *, crowded: bool = False) -> AsyncIterator[Line]:
    peer = Peer()
    listener = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    pool = Http1Pool("127.0.0.1", listener.sockets[0].getsockname()[1], gather=seconds)
    pool.beat = beat = ByHand(pool.loop, seconds)
    beat.crowded = crowded
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
        while line.answer.unread < len(b"abc"):
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


@asynccontextmanager
async def in_a_crowd() -> AsyncIterator[tuple[Line, asyncio.Future[bytes]]]:
    """An answer among many, of which a piece is held; and who reads it."""
    async with a_line(crowded=True) as line:
        reading = asyncio.ensure_future(read(line.answer))
        await asyncio.sleep(0)
        await line.hold(b"a")
        yield line, reading
        reading.cancel()


async def test_in_a_crowd_what_comes_is_looked_for_at_the_beat() -> None:
    async with in_a_crowd() as (line, reading):
        line.peer.say(b"b", b"c!")
        await asyncio.sleep(A_WHILE)
        assert line.answer.unread == len(b"a")  # the event loop told nothing
        line.beat.beat()
        assert await reading == b"abc!"
        assert len(line.beat.waiting) == 1  # for the next look


async def test_in_a_crowd_the_end_comes_with_the_beat() -> None:
    async with in_a_crowd() as (line, reading):
        line.peer.say(b"b", then=END)
        await asyncio.sleep(A_WHILE)
        assert not reading.done()
        line.beat.beat()
        assert await reading == b"ab"
        assert await read(line.answer) == b""
        assert not line.beat.waiting
        line.answer.leave(in_peace=True)
        again = await line.another()
        assert len(line.peer.writers) == 1  # on the same connection, which is listened to
        line.peer.say(b"first", then=END)
        assert await read(again, gather=False) == b"first"


async def test_in_a_crowd_a_cut_answer_tells_first_what_was_held() -> None:
    async with in_a_crowd() as (line, reading):
        line.peer.writers[-1].transport.abort()
        await asyncio.sleep(A_WHILE)
        line.beat.beat()
        assert await reading == b"a"
        with pytest.raises(ConnectionLost):
            await read(line.answer)


async def test_in_a_crowd_an_answer_that_ends_early_tells_first_what_was_held() -> None:
    async with in_a_crowd() as (line, reading):
        line.peer.say(b"b")
        line.peer.writers[-1].close()
        await asyncio.sleep(A_WHILE)
        line.beat.beat()
        assert await reading == b"ab"
        following = asyncio.ensure_future(read(line.answer))
        line.beat.beat()
        with pytest.raises(ConnectionLost):
            await following


async def test_in_a_crowd_nonsense_breaks_the_answer() -> None:
    async with in_a_crowd() as (line, reading):
        line.peer.writers[-1].write(b"no chunk\r\n")
        await asyncio.sleep(A_WHILE)
        line.beat.beat()
        assert await reading == b"a"
        with pytest.raises(ConnectionLost, match="malformed"):
            await read(line.answer)


async def test_who_falls_silent_is_listened_to_again() -> None:
    async with in_a_crowd() as (line, reading):
        line.beat.beat()
        assert await reading == b"a"
        assert not line.beat.waiting
        await line.hold(b"b")  # told by the event loop, with no beat between


async def test_where_the_crowd_has_gone_it_is_listened_to_again() -> None:
    async with in_a_crowd() as (line, reading):
        line.beat.crowded = False
        line.peer.say(b"b")
        await asyncio.sleep(A_WHILE)
        line.beat.beat()
        assert await reading == b"ab"
        assert not line.beat.waiting
        await line.hold(b"c")


async def test_who_gathers_no_more_is_told_at_once_also_in_a_crowd() -> None:
    async with in_a_crowd() as (line, reading):
        line.beat.beat()
        assert await reading == b"a"
        for piece in (b"b", b"c"):
            line.peer.say(piece)
            assert await read(line.answer, gather=False) == piece


async def test_who_leaves_a_crowd_is_looked_at_once_a_beat_when_they_are_back() -> None:
    async with in_a_crowd() as (line, reading):
        line.peer.say(b"b", then=END)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        line.answer.leave(in_peace=True)
        # It lingers for its end, which the event loop tells.
        while not line.pool.has_free():
            await asyncio.sleep(0.005)
        answer = await line.another()
        assert len(line.peer.writers) == 1
        line.peer.say(b"first")
        assert await read(answer, gather=False) == b"first"
        following = asyncio.ensure_future(read(answer))
        await asyncio.sleep(0)
        await line.hold(b"c")
        line.peer.say(b"d")
        await asyncio.sleep(A_WHILE)
        line.beat.beat()  # for the call before, and for this one
        assert await following == b"cd"
        assert len(line.beat.waiting) == 1


async def test_in_a_crowd_the_event_loop_brings_what_one_look_did_not() -> None:
    async with in_a_crowd() as (line, reading):
        line.peer.say(b"x" * A_BURST)
        await asyncio.sleep(A_WHILE)
        line.beat.beat()
        received = await reading
        assert A_BURST // 2 < len(received) <= A_BURST
        await asyncio.wait_for(line.beat.held.wait(), SOON)
        while len(received) < A_BURST + 1:
            following = asyncio.ensure_future(read(line.answer))
            while not following.done():
                line.beat.beat()
                await asyncio.sleep(0.001)
            received += following.result()
        assert received == b"a" + b"x" * A_BURST


async def test_who_does_not_keep_up_makes_the_other_side_wait() -> None:
    async with in_a_crowd() as (line, reading):
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        line.peer.say(*[b"x" * 10_000] * 200)
        for _ in range(50):
            line.beat.beat()
            await asyncio.sleep(0.005)
        assert A_BURST < line.answer.unread < 5 * A_BURST
        received = 0
        while received < 2_000_001:
            received += len(await read(line.answer, gather=False))
        assert received == 2_000_001


async def test_what_came_with_the_piece_that_is_held_makes_the_other_side_wait_too() -> None:
    """It was too much at once: the next beat must not have it read on."""
    async with in_a_crowd() as (line, reading):
        line.beat.beat()
        assert await reading == b"a"
        connection = next(iter(line.pool._all))
        # As if the event loop had read all of it in one go, which it does of a large buffer.
        chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
        connection.data_received(b"1\r\na\r\n" + chunk * 30)
        line.peer.say(*[b"x" * 10_000] * 200)
        for _ in range(50):
            line.beat.beat()
            await asyncio.sleep(0.005)
        assert line.answer.unread < 5 * A_BURST
        received = 0
        while received < 2_300_001:
            received += len(await read(line.answer, gather=False))
        assert received == 2_300_001


async def _read_whole(pool: Http1Pool) -> bytes:
    answer = await pool.request("GET", "/x", {}, head_within=SOON)
    whole = b""
    while piece := await read(answer):
        whole += piece
    answer.leave(in_peace=True)
    return whole


def test_a_crowd_of_answers_comes_whole_by_the_event_loop_of_the_services() -> None:
    said = [b"%d " % number for number in range(40)]
    looks: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(HEAD)
                for piece in said:
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await asyncio.sleep(0.005)
                writer.write(END)
        writer.close()

    async def main() -> None:
        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        pool = Http1Pool("127.0.0.1", listener.sockets[0].getsockname()[1], gather=0.04)
        for _ in range(2):  # the second time on connections that were looked at before
            answers = await asyncio.gather(*[_read_whole(pool) for _ in range(30)])
            assert answers == [b"".join(said)] * 30
        await pool.close()
        listener.close()

    look = Polled.look

    def counted(polled: Polled) -> bytes:
        came = look(polled)
        looks.append(len(came))
        return came

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Polled, "look", counted)
        uvloop.run(main())
    assert sum(looks) > len(said), "nothing was looked for"


async def test_a_beat_is_crowded_while_many_wait() -> None:
    beat = Beat(asyncio.get_running_loop(), 0.01)
    over = asyncio.Event()
    seen: list[bool] = []

    def look(left: int) -> None:
        seen.append(beat.is_crowded)
        if left:
            beat.wait(lambda: look(left - 1))
        else:
            over.set()

    def crowded() -> bool:
        return beat.is_crowded

    beat.wait(lambda: look(2))
    assert not crowded()
    await asyncio.wait_for(over.wait(), SOON)
    assert seen == [False] * 3
    over.clear()
    for _ in range(20):
        beat.wait(lambda: look(2))
    assert crowded()
    await asyncio.wait_for(over.wait(), SOON)
    await asyncio.sleep(A_WHILE)
    assert seen == [False] * 3 + [True] * 60
    assert not crowded()


class EarlyLoop:
    """Calls a millisecond before the time, as loops that count milliseconds do."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        self.due.append((when, call))

    def run(self) -> float:
        ((when, call),) = self.due
        self.due.clear()
        self.now = when - 0.001
        call()
        return when


def test_no_beat_comes_twice() -> None:
    loop = EarlyLoop()
    beat = Beat(cast("asyncio.AbstractEventLoop", loop), 0.04)

    def again() -> None:
        beat.wait(again)

    again()
    assert [loop.run() for _ in range(4)] == pytest.approx([0.04, 0.08, 0.12, 0.16])


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
