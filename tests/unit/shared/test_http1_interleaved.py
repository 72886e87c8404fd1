"""Many callers on one pool, heads ahead and whole requests, in front of a server that answers in
every way there is: whatever happens, each gets the answer to what they asked, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import pytest

from shared.clients.http1 import Answer, ConnectionLost, Http1Pool, NotFinished
from tests.unit.shared.test_http1 import Peer

CALLERS, CALLS = 12, 25
PATIENCE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 0.006


@dataclass
class Heard:
    """A request as the server has it; its body is that of its name, and nothing else."""

    peer: Peer
    name: str
    length: int
    server: Server

    async def body(self) -> None:
        body = await self.peer.reader.readexactly(self.length)
        self.server.had_body.add(self.name)
        if body != body_for(self.name):
            self.server.mistaken.append((self.name, body))

    def answer(self, status: int = 200, *more: str) -> bytes:
        lines = [f"HTTP/1.1 {status} X", f"x-name: {self.name}", *more]
        return "\r\n".join([*lines, f"content-length: {len(self.name)}", "", self.name]).encode()


def body_for(name: str) -> bytes:
    return f"body of {name}.".encode() * (1 + len(name) % 3)


async def pause() -> None:
    await asyncio.sleep(LONGEST_PAUSE_SECONDS / 2)


async def after_the_body(heard: Heard) -> None:
    await heard.body()
    await heard.peer.send(heard.answer())


async def late(heard: Heard) -> None:
    await heard.body()
    await pause()
    await heard.peer.send(heard.answer())


async def in_pieces(heard: Heard) -> None:
    await heard.body()
    said = heard.answer()
    await heard.peer.send(said[:30], said[30:-2], said[-2:])


async def before_the_body(heard: Heard) -> None:
    begun = f"HTTP/1.1 200 X\r\nx-name: {heard.name}\r\ntransfer-encoding: chunked\r\n\r\n"
    await heard.peer.send(begun.encode())
    await heard.body()
    await heard.peer.send(f"{len(heard.name):x}\r\n{heard.name}\r\n0\r\n\r\n".encode())


async def continuing(heard: Heard) -> None:
    await heard.peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await after_the_body(heard)


async def refusing(heard: Heard) -> None:
    """And staying, so that what comes next is taken for the body."""
    await heard.peer.send(heard.answer(403))
    await heard.body()


async def refusing_late(heard: Heard) -> None:
    await pause()
    await refusing(heard)


async def refusing_and_closing(heard: Heard) -> None:
    await heard.peer.send(heard.answer(403, "connection: close"))
    heard.peer.writer.close()


async def not_waiting(heard: Heard) -> None:
    await heard.peer.send(heard.answer(408, "connection: close"))
    heard.peer.writer.close()


async def hanging_up(heard: Heard) -> None:
    heard.peer.writer.close()


async def resetting(heard: Heard) -> None:
    heard.peer.reset()


async def saying_too_much(heard: Heard) -> None:
    await heard.body()
    await heard.peer.send(heard.answer() * 2)


async def cut(heard: Heard) -> None:
    await heard.body()
    await heard.peer.send(heard.answer()[:-3])
    heard.peer.writer.close()


async def silent(heard: Heard) -> None:
    await heard.body()
    await heard.peer.reader.read()


Way = Callable[[Heard], Awaitable[None]]
WAYS: Mapping[str, Way] = {
    way.__name__: way
    for way in (
        after_the_body,
        late,
        in_pieces,
        before_the_body,
        continuing,
        refusing,
        refusing_late,
        refusing_and_closing,
        not_waiting,
        hanging_up,
        resetting,
        saying_too_much,
        cut,
        silent,
    )
}


@dataclass
class Server:
    """Answers each request in the way that it asks for."""

    had_body: set[str] = field(default_factory=set)
    mistaken: list[tuple[str, bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                heard = Heard(peer, lines["x-name"], int(lines["content-length"]), self)
                await WAYS[lines["x-way"]](heard)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def a_server() -> AsyncIterator[tuple[Http1Pool, Server]]:
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    pool = Http1Pool("127.0.0.1", listener.sockets[0].getsockname()[1])
    try:
        yield pool, server
    finally:
        await pool.close()
        listener.close()


@dataclass
class Caller:
    """Calls in one way after the other."""

    pool: Http1Pool
    name: str
    luck: Random
    answered: int = 0
    went_ahead: int = 0
    left: set[str] = field(default_factory=set)  # of which no body was sent

    async def call_all(self) -> None:
        for number in range(CALLS):
            call = asyncio.create_task(self._call(f"{self.name}.{number}"))
            if self.luck.random() < 0.2:
                await self._sleep()
                call.cancel()
            await asyncio.wait({call})
            if not call.cancelled():
                call.result()

    async def _call(self, name: str) -> None:
        way = self.luck.choice(list(WAYS))
        try:
            answer = await self._asked(name, way)
            if answer is not None:
                await self._read(answer, name)
        except (ConnectionLost, TimeoutError):
            pass

    async def _asked(self, name: str, way: str) -> Answer | None:
        headers, body = {"x-name": name, "x-way": way}, body_for(name)
        within = 0.05 if way == "silent" else PATIENCE_SECONDS
        ahead = None
        if self.luck.random() < 0.7:
            ahead = self.pool.ahead("POST", "/x", headers, len(body))
        if ahead is not None:
            self.went_ahead += 1
            try:
                await self._sleep()
                if self.luck.random() < 0.3:
                    raise ConnectionLost
            except BaseException:
                self.left.add(name)
                ahead.leave(in_peace=False)
                raise
            try:
                return await self.pool.finish(ahead, body, head_within=within)
            except NotFinished:
                self.left.add(name)
                headers = {"x-name": f"{name}-anew", "x-way": "late"}
                name, body = headers["x-name"], body_for(headers["x-name"])
        answer = await self.pool.request("POST", "/x", headers, body, head_within=within)
        assert answer.headers["x-name"] == name
        return answer

    async def _read(self, answer: Answer, name: str) -> None:
        told = answer.headers["x-name"]
        assert told in (name, f"{name}-anew")
        how = self.luck.choice(["all", "all", "all", "nothing", "something"])
        try:
            if how == "all":
                assert await answer.read(within=PATIENCE_SECONDS, most=1000) == told.encode()
                self.answered += 1
            elif how == "something":
                assert told.encode().startswith(await answer.read_some(within=PATIENCE_SECONDS))
        except BaseException:
            answer.leave(in_peace=False)
            raise
        answer.leave(in_peace=self.luck.random() < 0.8)

    async def _sleep(self) -> None:
        await asyncio.sleep(self.luck.random() * LONGEST_PAUSE_SECONDS)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_each_gets_the_answer_to_what_they_asked(seed: int) -> None:
    async with a_server() as (pool, server):
        callers = [
            Caller(pool, f"{number}", Random(f"{seed} {number}")) for number in range(CALLERS)
        ]
        async with asyncio.TaskGroup() as together:
            for caller in callers:
                together.create_task(caller.call_all())
        assert server.mistaken == []
        left = set().union(*[caller.left for caller in callers])
        assert len(left) > CALLERS
        assert not left & server.had_body
        assert sum(caller.answered for caller in callers) > CALLERS
        assert sum(caller.went_ahead for caller in callers) > CALLERS
        await nothing_is_left_open(pool)
        for _ in range(len(pool._idle)):
            await asks_once_more(pool)


async def nothing_is_left_open(pool: Http1Pool) -> None:
    """All connections are free or have ended."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while pool._all != {one for one in pool._idle if not one.is_closed}:
            await asyncio.sleep(0.005)
    assert len(pool._idle) == len(set(pool._idle))


async def asks_once_more(pool: Http1Pool) -> None:
    headers = {"x-name": "once more", "x-way": "after_the_body"}
    body = body_for("once more")
    answer = await pool.request("POST", "/x", headers, body, head_within=PATIENCE_SECONDS)
    assert await answer.read(within=PATIENCE_SECONDS, most=100) == b"once more"
    answer.leave(in_peace=True)
