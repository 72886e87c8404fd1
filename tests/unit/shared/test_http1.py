"""The lean client, in front of servers that behave well, badly, and not at all."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from shared.clients import http1
from shared.clients.http1 import Answer, BodyTooLarge, ConnectionLost, Http1Pool, NotReached
from tests.support.waiting import until

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SOON = 2.0


@dataclass
class Server:
    """Plays one part of `parts` for each request; the last one goes on for ever."""

    parts: list[Callable[[Peer], Awaitable[None]]]
    port: int = 0
    heard: list[bytes] = field(default_factory=list)
    connections: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        peer = Peer(reader, writer)
        try:
            while True:
                self.heard.append(await peer.request())
                part = self.parts.pop(0) if len(self.parts) > 1 else self.parts[0]
                await part(peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended.set()
            writer.close()


@dataclass
class Peer:
    """The server's end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            (
                int(line[16:])
                for line in head.split(b"\r\n")
                if line.startswith(b"content-length: ")
            ),
            0,
        )
        return head + await self.reader.readexactly(length)

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a segment of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.002)

    def reset(self) -> None:
        """End it so that the other side gets an error, not an end."""
        peer: socket.socket = self.writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def saying(*pieces: bytes) -> Callable[[Peer], Awaitable[None]]:
    async def part(peer: Peer) -> None:
        await peer.send(*pieces)

    return part


def saying_and_closing(*pieces: bytes) -> Callable[[Peer], Awaitable[None]]:
    async def part(peer: Peer) -> None:
        await peer.send(*pieces)
        peer.writer.close()

    return part


async def silence(_peer: Peer) -> None:
    await asyncio.sleep(60)


async def resetting(peer: Peer) -> None:
    peer.reset()


@asynccontextmanager
async def talking(
    *parts: Callable[[Peer], Awaitable[None]], idle_for: float = 50.0
) -> AsyncIterator[tuple[Http1Pool, Server]]:
    server = Server(list(parts))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    pool = Http1Pool("127.0.0.1", server.port, idle_for=idle_for)
    try:
        yield pool, server
    finally:
        await pool.close()
        listener.close()


async def get(pool: Http1Pool, **parts: str) -> Answer:
    return await pool.request("GET", "/x", parts, head_within=SOON)


async def body_of(pool: Http1Pool) -> bytes:
    answer = await get(pool)
    try:
        return await answer.read(within=SOON, most=1 << 20)
    finally:
        answer.leave(in_peace=True)


async def test_a_request_is_sent_as_it_is_and_the_answer_read() -> None:
    said = b"HTTP/1.1 201 Made\r\nX-Thing: a\r\nx-thing: b\r\ncontent-length: 5\r\n\r\nhello"
    async with talking(saying(said)) as (pool, server):
        answer = await pool.request(
            "POST", "/a?b=%20c", {"x-request-id": "r1"}, b"body", head_within=SOON
        )
        assert (answer.status, answer.headers.get("X-THING")) == (201, "a, b")
        assert "x-other" not in answer.headers
        assert answer.headers.get("x-other") is None
        assert answer.headers.get("x-other", "none") == "none"
        assert dict(answer.headers) == {"x-thing": "a, b", "content-length": "5"}
        assert await answer.read(within=SOON, most=5) == b"hello"
        assert await answer.read_some(within=SOON) == b""
        answer.leave(in_peace=True)
    assert server.heard == [
        b"POST /a?b=%%20c HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept: */*\r\n"
        b"accept-encoding: identity\r\ncontent-length: 4\r\nx-request-id: r1\r\n\r\nbody"
        % server.port
    ]


WELL_FORMED = {
    "by length": [OK],
    "byte by byte": [OK[n : n + 1] for n in range(len(OK))],
    "chunks": [CHUNKED + b"1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"],
    "chunk extensions": [CHUNKED + b'1;a=b\r\nh\r\n1;c="d;e"\r\ni\r\n0;z\r\n\r\n'],
    "trailers": [CHUNKED + b"2\r\nhi\r\n0\r\nx-trailer: 1\r\nstatus: 500\r\n\r\n"],
    "split chunk sizes": [CHUNKED, b"0", b"2\r", b"\nh", b"i\r\n0\r", b"\n\r", b"\n"],
    "large hexadecimal": [CHUNKED + b"000002\r\nhi\r\n0\r\n\r\n"],
    "100 before": [b"HTTP/1.1 100 Continue\r\n\r\n", OK],
    "103 before": [b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK],
    "another case": [b"HTTP/1.1 200 ok\r\nCONTENT-LENGTH:2\r\n\r\nhi"],
    "no reason": [b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nhi"],
}


@pytest.mark.parametrize("how", WELL_FORMED)
async def test_what_is_well_formed_is_read_and_its_connection_kept(how: str) -> None:
    async with talking(saying(*WELL_FORMED[how])) as (pool, server):
        for _ in range(3):
            assert await body_of(pool) == b"hi"
        assert server.connections == 1


UNTIL_CLOSED = {
    "no length": b"HTTP/1.1 200 OK\r\n\r\nhi",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nhi",
    "another encoding last": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, x\r\n\r\nhi",
}


@pytest.mark.parametrize("how", UNTIL_CLOSED)
async def test_a_body_that_ends_with_its_connection_is_whole(how: str) -> None:
    async with talking(saying_and_closing(UNTIL_CLOSED[how])) as (pool, server):
        assert await body_of(pool) == b"hi"
        assert await body_of(pool) == b"hi"
        assert server.connections == 2


async def test_one_that_is_reset_instead_is_not() -> None:
    async def part(peer: Peer) -> None:
        await peer.send(UNTIL_CLOSED["no length"])
        peer.reset()

    async with talking(part) as (pool, _):
        with pytest.raises(ConnectionLost):
            await body_of(pool)


@pytest.mark.parametrize("status", [204, 304])
async def test_some_statuses_have_no_body(status: int) -> None:
    async with talking(saying(b"HTTP/1.1 %d X\r\n\r\n" % status)) as (pool, server):
        assert await body_of(pool) == b""
        assert await body_of(pool) == b""
        assert server.connections == 1


NOT_KEPT = {
    "asked to close": b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    "a second answer": OK + OK,
    "the start of a second answer": OK + b"HT",
    "garbage behind": OK + b"\x00\x01garbage",
    "a late 100": OK + b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("how", NOT_KEPT)
async def test_a_connection_that_says_more_or_wants_to_end_is_not_used_again(how: str) -> None:
    async with talking(saying(NOT_KEPT[how])) as (pool, server):
        for number in range(1, 4):
            assert await body_of(pool) == b"hi"
            assert server.connections == number


async def test_what_is_said_while_nobody_asks_ends_the_connection() -> None:
    """Else it would be the next caller's answer."""

    async def part(peer: Peer) -> None:
        await peer.send(OK)
        await peer.send(OK.replace(b"hi", b"no"))

    async with talking(part, saying(OK)) as (pool, server):
        assert await body_of(pool) == b"hi"
        await asyncio.wait_for(server.ended.wait(), SOON)
        assert await body_of(pool) == b"hi"
        assert server.connections == 2


MALFORMED = {
    "garbage": b"\x16\x03\x01\x02\x00",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "five digits": b"HTTP/1.1 20000 OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi",
    "a list of lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nhi",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nhi",
    "an endless length": b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 30 + b"\r\n\r\nhi",
    "length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"
    b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "a folded header": b"HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 2\r\n\r\nhi",
    "a space in a name": b"HTTP/1.1 200 OK\r\na b: c\r\ncontent-length: 2\r\n\r\nhi",
    "NUL": b"HTTP/1.1 200 OK\r\na: \x00\r\ncontent-length: 2\r\n\r\nhi",
    "bare line ends": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nhi",
    "a chunk of no size": CHUNKED + b"\r\nhi\r\n0\r\n\r\n",
    "a chunk of letters": CHUNKED + b"zz\r\nhi\r\n0\r\n\r\n",
    "an endless chunk": CHUNKED + b"f" * 20 + b"\r\nhi",
    "a chunk without its end": CHUNKED + b"2\r\nhiX0\r\n\r\n",
    "an upgrade": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "a bare 101": b"HTTP/1.1 101 Switching\r\n\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "only a 100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "too little": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi",
    "no last chunk": CHUNKED + b"2\r\nhi\r\n",
    "a cut trailer": CHUNKED + b"2\r\nhi\r\n0\r\nx: y",
    "a large header": b"HTTP/1.1 200 OK\r\na: "
    + b"a" * 100_000
    + b"\r\ncontent-length: 2\r\n\r\nhi",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 40_000 + b"content-length: 2\r\n\r\nhi",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 40_000,
    "a line without end": b"HTTP/1.1 200 " + b"a" * 300_000,
    "many 100s": b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
    "a large trailer": CHUNKED + b"0\r\na: " + b"a" * 100_000 + b"\r\n\r\n",
    "a large chunk extension": CHUNKED + b"2;" + b"a" * 400_000 + b"\r\nhi\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("how", MALFORMED)
async def test_what_is_malformed_or_cut_is_a_lost_connection(how: str) -> None:
    async with talking(saying_and_closing(MALFORMED[how]), saying(OK)) as (pool, server):
        with pytest.raises(ConnectionLost):
            await body_of(pool)
        assert await body_of(pool) == b"hi"
        assert server.connections == 2


@pytest.mark.parametrize("how", ["a head without end", "a line without end", "many 100s"])
async def test_no_head_is_read_for_ever(how: str) -> None:
    """Without an end of the connection, and long before the time is up."""
    async with talking(saying(*[MALFORMED[how]] * 3)) as (pool, server):
        with pytest.raises(ConnectionLost, match="too large"):
            await get(pool)
        await asyncio.wait_for(server.ended.wait(), SOON)


async def test_pieces_come_as_they_are_sent() -> None:
    async def part(peer: Peer) -> None:
        await peer.send(CHUNKED)
        for piece in (b"one", b"two", b"three"):
            await asked.wait()
            asked.clear()
            await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await peer.send(b"0\r\n\r\n")

    asked = asyncio.Event()
    async with talking(part) as (pool, _):
        answer = await get(pool)
        for piece in (b"one", b"two", b"three"):
            asked.set()
            assert await answer.read_some(within=SOON) == piece
        assert await answer.read_some(within=SOON) == b""
        answer.leave(in_peace=True)


async def test_what_came_before_the_cut_is_read_first() -> None:
    async with talking(saying_and_closing(MALFORMED["too little"])) as (pool, _):
        answer = await get(pool)
        await asyncio.sleep(0.02)
        assert await answer.read_some(within=SOON) == b"hi"
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                await answer.read_some(within=SOON)
        answer.leave(in_peace=False)


async def test_silence_ends_the_wait_for_a_head_and_the_connection() -> None:
    async with talking(silence, saying(OK)) as (pool, server):
        with pytest.raises(TimeoutError):
            await pool.request("GET", "/x", {}, head_within=0.02)
        assert await body_of(pool) == b"hi"
        assert server.connections == 2


async def test_silence_in_a_body_ends_the_wait_for_it() -> None:
    async def part(peer: Peer) -> None:
        await peer.send(CHUNKED + b"2\r\nhi\r\n")
        await silence(peer)

    async with talking(part) as (pool, _):
        answer = await get(pool)
        assert await answer.read_some(within=SOON) == b"hi"
        with pytest.raises(TimeoutError):
            await answer.read_some(within=0.02)
        answer.leave(in_peace=False)


async def test_a_shorter_patience_counts_from_its_own_wait() -> None:
    """The timer of a longer one runs on the same connection."""
    async with talking(saying(OK), silence) as (pool, _):
        answer = await pool.request("GET", "/x", {}, head_within=60)
        answer.leave(in_peace=True)
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await pool.request("GET", "/x", {}, head_within=0.02)
        assert asyncio.get_running_loop().time() - began < 20


async def test_a_longer_patience_is_not_cut_by_the_timer_of_a_shorter_one() -> None:
    async def slowly(peer: Peer) -> None:
        await asyncio.sleep(0.1)
        await peer.send(OK)

    async with talking(saying(OK), slowly) as (pool, server):
        answer = await pool.request("GET", "/x", {}, head_within=0.05)
        answer.leave(in_peace=True)
        assert await body_of(pool) == b"hi"
        assert server.connections == 1


async def test_drops_that_never_end_are_cut_off_as_a_whole() -> None:
    async def dripping(peer: Peer) -> None:
        await peer.send(CHUNKED)
        while True:
            await peer.send(b"1\r\nx\r\n")

    async with talking(dripping) as (pool, _):
        answer = await get(pool)
        with pytest.raises(TimeoutError):
            await answer.read(within=0.05, most=1 << 20)
        answer.leave(in_peace=False)


async def test_a_reader_says_how_much_is_too_much() -> None:
    async with talking(saying(OK)) as (pool, _):
        answer = await get(pool)
        with pytest.raises(BodyTooLarge):
            await answer.read(within=SOON, most=1)
        answer.leave(in_peace=False)


async def test_a_reset_instead_of_an_answer_may_have_been_heard() -> None:
    async with talking(resetting) as (pool, _):
        with pytest.raises(ConnectionLost):
            await get(pool)


async def test_nobody_there_means_that_nothing_was_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        pool = Http1Pool("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(NotReached):
            await get(pool)
        with pytest.raises(NotReached):
            await pool.reach()
        await pool.close()


async def test_reaching_sends_nothing() -> None:
    async with talking(saying(OK)) as (pool, server):
        await pool.reach()
        assert server.heard == []


async def test_a_connection_that_ended_while_idle_is_not_used() -> None:
    async with talking(saying_and_closing(OK)) as (pool, server):
        for number in range(1, 4):
            assert await body_of(pool) == b"hi"
            await asyncio.wait_for(server.ended.wait(), SOON)
            server.ended.clear()
            await asyncio.sleep(0.01)
            assert server.connections == number


async def test_a_connection_is_let_go_after_a_while() -> None:
    async with talking(saying(OK), idle_for=0.05) as (pool, server):
        await body_of(pool)
        await asyncio.wait_for(server.ended.wait(), SOON)
        await body_of(pool)
        assert server.connections == 2


async def test_calls_at_once_have_connections_of_their_own() -> None:
    async def echo(peer: Peer) -> None:
        await asyncio.sleep(0.01)
        name = server.heard[-1]
        assert name
        await peer.send(OK)

    async with talking(echo) as (pool, server):
        assert await asyncio.gather(*[body_of(pool) for _ in range(20)]) == [b"hi"] * 20
        # And one that is kept free.
        await until(lambda: server.connections == 21)
        await asyncio.gather(*[body_of(pool) for _ in range(20)])
        assert server.connections == 21


@asynccontextmanager
async def under_way(pool: Http1Pool, number: int) -> AsyncIterator[None]:
    """So many calls have the heads of their answers, and go on inside the block."""
    answers = [await get(pool) for _ in range(number)]
    try:
        yield
    finally:
        for answer in answers:
            answer.leave(in_peace=False)


@pytest.mark.parametrize("calls", [2, 3, 7])
async def test_while_several_calls_are_under_way_the_next_one_finds_a_connection(
    calls: int,
) -> None:
    async with talking(saying(CHUNKED)) as (pool, server), under_way(pool, calls):
        await until(pool.has_free)
        assert server.connections == calls + 1
        ahead = pool.ahead("POST", "/x", {}, 4)
        assert ahead is not None, "its head need not wait for a connection"
        await until(pool.has_free)
        ahead.leave(in_peace=False)


async def test_a_call_alone_connects_for_nobody_else() -> None:
    async with talking(saying(CHUNKED)) as (pool, server), under_way(pool, 1):
        await asyncio.sleep(0.05)
        assert (server.connections, pool.has_free()) == (1, False)


async def test_a_spare_connection_is_let_go_like_any_other() -> None:
    async with talking(saying(CHUNKED), idle_for=0.05) as (pool, server), under_way(pool, 2):
        await until(lambda: server.connections == 3)
        await asyncio.wait_for(server.ended.wait(), SOON)
        assert not pool.has_free()


async def test_what_cannot_connect_ahead_tells_it_to_whoever_needs_a_connection() -> None:
    async with asyncio.timeout(SOON):
        listener = await asyncio.start_server(Server([saying(CHUNKED)]).serve, "127.0.0.1", 0)
        pool = Http1Pool("127.0.0.1", listener.sockets[0].getsockname()[1])
        first = await get(pool)
        listener.close()
        # Refused, as the one beside it that nobody waits for.
        for _ in range(2):
            with pytest.raises(NotReached):
                await get(pool)
        first.leave(in_peace=False)
        await pool.close()


async def test_closing_the_pool_gives_up_a_connection_that_is_being_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with talking(saying(CHUNKED)) as (pool, _), under_way(pool, 1):
        connected, let = pool._connect, asyncio.Event()

        async def slow() -> http1.Connection:
            await let.wait()
            return await connected()

        async with under_way(pool, 1):
            monkeypatch.setattr(pool, "_connect", slow)
            pool._provide()
            providing = pool._providing
            await pool.close()
        assert providing is not None
        await asyncio.wait({providing}, timeout=SOON)
        assert providing.cancelled()


async def test_leaving_in_the_middle_tells_the_other_side() -> None:
    async def endless(peer: Peer) -> None:
        await peer.send(CHUNKED)
        while True:
            await peer.send(b"1\r\nx\r\n")

    async with talking(endless, saying(OK)) as (pool, server):
        answer = await get(pool)
        assert await answer.read_some(within=SOON)
        answer.leave(in_peace=False)
        await asyncio.wait_for(server.ended.wait(), SOON)
        assert await body_of(pool) == b"hi"


async def test_being_cancelled_cuts_the_call() -> None:
    async with talking(silence, saying(OK)) as (pool, server):
        call = asyncio.create_task(get(pool))
        while not server.heard:
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await body_of(pool) == b"hi"
        assert server.connections == 2


async def test_the_last_bytes_may_come_a_moment_after_its_reader_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http1, "_LINGER_SECONDS", 60)

    async def part(peer: Peer) -> None:
        await peer.send(CHUNKED + b"6\r\n[DONE]\r\n")
        await left.wait()
        await peer.send(b"0\r\n\r\n")

    left = asyncio.Event()
    async with talking(part) as (pool, server):
        for _ in range(3):
            left.clear()
            answer = await get(pool)
            assert await answer.read_some(within=SOON) == b"[DONE]"
            answer.leave(in_peace=True)
            left.set()
            async with asyncio.timeout(10):
                while not pool._idle:
                    await asyncio.sleep(0.001)
        assert server.connections == 1


@pytest.mark.parametrize("more", [b"1\r\nx\r\n", b"8000\r\n" + b"x" * 0x8000 + b"\r\n"])
async def test_but_nobody_waits_for_more_than_that(
    monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    monkeypatch.setattr(http1, "_LINGER_SECONDS", 0.05)

    async def endless(peer: Peer) -> None:
        await peer.send(CHUNKED)
        while True:
            await peer.send(more)

    async with talking(endless, saying(OK)) as (pool, server):
        answer = await get(pool)
        answer.leave(in_peace=True)
        await asyncio.wait_for(server.ended.wait(), SOON)
        assert await body_of(pool) == b"hi"
        assert server.connections == 2


async def test_who_does_not_read_makes_the_other_side_wait() -> None:
    sent, pieces = 0, 800  # more than any kernel takes on

    async def flood(peer: Peer) -> None:
        nonlocal sent
        await peer.send(CHUNKED)
        for _ in range(pieces):
            peer.writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await peer.writer.drain()
            sent += 0x10000
        await peer.send(b"0\r\n\r\n")

    async with talking(flood, saying(OK)) as (pool, server):
        answer = await get(pool)
        await asyncio.sleep(0.2)
        assert sent < pieces * 0x10000
        body = await answer.read(within=SOON, most=1 << 26)
        answer.leave(in_peace=True)
        assert len(body) == pieces * 0x10000
        assert await body_of(pool) == b"hi"
        assert server.connections == 1


async def test_an_answer_before_the_request_is_sent_is_heard_and_ends_the_connection() -> None:
    server_connections = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal server_connections
        server_connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Large\r\ncontent-length: 2\r\n\r\nno")
        await ended.wait()
        writer.close()

    ended = asyncio.Event()
    listener = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1 << 16)
    pool = Http1Pool("127.0.0.1", listener.sockets[0].getsockname()[1])
    for number in (1, 2):
        answer = await pool.request("POST", "/x", {}, b"x" * (32 << 20), head_within=SOON)
        assert answer.status == 413
        assert await answer.read(within=SOON, most=10) == b"no"
        answer.leave(in_peace=True)
        assert server_connections == number
    ended.set()
    await pool.close()
    listener.close()


@pytest.mark.parametrize(
    "value",
    ["a\r\nx-evil: 1", "a\nb", "a\rb", "a\0b", "\r\n\r\nGET / HTTP/1.1", "\u2028", "\ud800"],
)
async def test_a_header_cannot_become_two(value: str) -> None:
    async with talking(saying(OK)) as (pool, server):
        with pytest.raises(ValueError):
            await get(pool, thing=value)
        with pytest.raises(ValueError):
            await pool.request("GET", f"/{value}", {}, head_within=SOON)
        assert server.heard == []


async def test_an_answer_that_was_left_says_nothing_of_the_next() -> None:
    async with talking(saying(OK), saying(OK.replace(b"hi", b"no"))) as (pool, _):
        first = await get(pool)
        first.leave(in_peace=True)
        second = await get(pool)
        first.leave(in_peace=False)
        assert await first.read_some(within=SOON) == b"hi"
        assert await second.read_some(within=SOON) == b"no"
        second.leave(in_peace=True)
