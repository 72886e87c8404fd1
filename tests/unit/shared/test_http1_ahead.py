"""The head of a request that goes ahead of its body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from shared.clients.http1 import Answer, Http1Pool, NotFinished
from tests.unit.shared.test_http1 import (
    OK,
    SOON,
    Peer,
    body_of,
    resetting,
    saying,
    saying_and_closing,
    silence,
    talking,
)

HEAD_HEARD = b"content-length: 4\r\nx: y\r\n\r\n"


@dataclass
class Listening:
    """Answers a first request as usual, so that there is a connection; of the second one it hears
    the head, does `then`, and goes on as usual."""

    then: Callable[[Peer], Awaitable[None]]
    head: asyncio.Future[bytes] = field(default_factory=asyncio.Future)
    rest: list[bytes] = field(default_factory=list)
    connections: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        peer = Peer(reader, writer)
        try:
            await peer.request()
            await peer.send(OK)
            head = await reader.readuntil(b"\r\n\r\n")
            if not self.head.done():
                self.head.set_result(head)
            await self.then(peer)
            while piece := await reader.read(1 << 16):
                self.rest.append(piece)
                if self.rest == [b"body"]:
                    await peer.send(OK)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended.set()
            writer.close()


@asynccontextmanager
async def a_head_ahead(
    then: Callable[[Peer], Awaitable[None]],
) -> AsyncIterator[tuple[Http1Pool, Listening, Answer]]:
    """The server has heard the head of a request whose body has not been sent."""
    server = Listening(then)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    pool = Http1Pool("127.0.0.1", listener.sockets[0].getsockname()[1])
    try:
        assert await body_of(pool) == b"hi"
        ahead = pool.ahead("POST", "/x", {"x": "y"}, 4)
        assert ahead is not None
        assert (await asyncio.wait_for(server.head, SOON)).endswith(HEAD_HEARD)
        yield pool, server, ahead
    finally:
        await pool.close()
        listener.close()


async def nothing(_peer: Peer) -> None:
    """Wait for the body."""


async def test_a_body_follows_its_head_and_the_connection_stays() -> None:
    async with a_head_ahead(nothing) as (pool, server, ahead):
        assert not server.rest
        assert not pool.has_free()
        answer = await pool.finish(ahead, b"body", head_within=SOON)
        assert await answer.read(within=SOON, most=100) == b"hi"
        answer.leave(in_peace=True)
        assert server.rest == [b"body"]
        assert not answer.lacks_body
        assert pool.has_free()
        assert server.connections == 1


async def test_a_head_that_is_left_ends_its_connection_without_a_body() -> None:
    async with a_head_ahead(nothing) as (pool, server, ahead):
        ahead.leave(in_peace=False)
        await asyncio.wait_for(server.ended.wait(), SOON)
        assert not server.rest
        assert not pool.has_free()


async def test_who_refuses_a_head_gets_no_body() -> None:
    refusal = b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno"
    async with a_head_ahead(saying(refusal)) as (pool, server, ahead):
        while not ahead.is_complete:
            await asyncio.sleep(0.001)
        answer = await pool.finish(ahead, b"body", head_within=SOON)
        assert (answer.status, answer.lacks_body) == (403, True)
        assert await answer.read(within=SOON, most=100) == b"no"
        answer.leave(in_peace=True)
        await asyncio.wait_for(server.ended.wait(), SOON)
        assert not server.rest
        # The other side would take what comes next for the body that it still waits for.
        assert not pool.has_free()


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(OK, id="a late answer to the one before"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nso", id="begun"),
        pytest.param(b"HTTP/1.1 302 There\r\ncontent-length: 0\r\n\r\n", id="elsewhere"),
        pytest.param(b"HTTP/1.1 408 Late\r\ncontent-length: 0\r\n\r\n", id="not waited for"),
    ],
)
async def test_what_is_no_refusal_is_no_answer_to_a_head(said: bytes) -> None:
    """It would be another caller's, or is told to nobody: nothing was sent, which is sent anew."""
    async with a_head_ahead(saying(said)) as (pool, server, ahead):
        while not ahead.status:
            await asyncio.sleep(0.001)
        with pytest.raises(NotFinished):
            await pool.finish(ahead, b"body", head_within=SOON)
        await asyncio.wait_for(server.ended.wait(), SOON)
        assert not server.rest
        assert not pool.has_free()


@pytest.mark.parametrize("ending", [resetting, saying_and_closing()])
async def test_a_connection_that_ends_after_the_head_has_heard_nothing(
    ending: Callable[[Peer], Awaitable[None]],
) -> None:
    async with a_head_ahead(ending) as (pool, server, ahead):
        while ahead.trouble is None:
            await asyncio.sleep(0.001)
        with pytest.raises(NotFinished):
            await pool.finish(ahead, b"body", head_within=SOON)
        assert not server.rest
        assert await body_of(pool) == b"hi"
        assert server.connections == 2


async def test_nobody_waits_for_ever_for_the_answer_to_a_body() -> None:
    async with a_head_ahead(silence) as (pool, _, ahead):
        with pytest.raises(TimeoutError):
            await pool.finish(ahead, b"body", head_within=0.05)
        assert not pool.has_free()


async def test_nothing_goes_ahead_where_no_connection_is_free() -> None:
    async with talking(saying(OK)) as (pool, server):
        assert not pool.has_free()
        assert pool.ahead("POST", "/x", {}, 4) is None
        assert server.connections == 0


async def test_a_connection_that_has_ended_is_not_free() -> None:
    async with talking(saying_and_closing(OK)) as (pool, server):
        assert await body_of(pool) == b"hi"
        await asyncio.wait_for(server.ended.wait(), SOON)
        while pool.has_free():
            await asyncio.sleep(0.001)
        assert pool.ahead("POST", "/x", {}, 4) is None
