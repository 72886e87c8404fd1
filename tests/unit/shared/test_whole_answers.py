"""An answer's head goes with its body, and waits for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar, cast

import pytest
import uvicorn

from shared.http.serve import _listener
from shared.http.whole_answers import HeadsWithBodies, WholeAnswers

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Recorded:
    """What a transport was asked for."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        self.told.append("closed")

    def abort(self) -> None:
        self.closing = True
        self.told.append("aborted")

    def pause_reading(self) -> None:
        self.told.append("paused")


@pytest.fixture
async def bare() -> Recorded:
    return Recorded()


@pytest.fixture
async def transport(bare: Recorded) -> HeadsWithBodies:
    return HeadsWithBodies(cast("asyncio.Transport", bare), asyncio.get_running_loop())


async def test_a_head_goes_with_its_body(transport: HeadsWithBodies, bare: Recorded) -> None:
    transport.write(HEAD)
    assert bare.told == []
    transport.write(b"ok")
    assert bare.told == [HEAD + b"ok"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert bare.told == [HEAD + b"ok", b"more"]


async def test_a_head_alone_waits_one_turn_of_the_loop(
    transport: HeadsWithBodies, bare: Recorded
) -> None:
    transport.write(HEAD)
    await asyncio.sleep(0)
    assert bare.told == [HEAD]
    transport.write(b"ok")
    assert bare.told == [HEAD, b"ok"]


async def test_two_answers_keep_their_order(transport: HeadsWithBodies, bare: Recorded) -> None:
    for piece in (HEAD, HEAD, b"a", HEAD, b"b"):
        transport.write(piece)
    await asyncio.sleep(0)
    assert b"".join(cast("list[bytes]", bare.told)) == HEAD + HEAD + b"a" + HEAD + b"b"


async def test_an_empty_body_lets_its_head_go(transport: HeadsWithBodies, bare: Recorded) -> None:
    transport.write(HEAD)
    transport.write(b"")
    assert bare.told == [HEAD]


async def test_closing_sends_what_was_written_and_aborting_does_not(
    transport: HeadsWithBodies, bare: Recorded
) -> None:
    transport.write(HEAD)
    transport.close()
    transport.write(HEAD)
    transport.abort()
    await asyncio.sleep(0)
    assert bare.told == [HEAD, "closed", "aborted"]


async def test_a_connection_that_ended_meanwhile_is_not_written_to(
    transport: HeadsWithBodies, bare: Recorded
) -> None:
    transport.write(HEAD)
    bare.closing = True
    await asyncio.sleep(0)
    assert bare.told == []


async def test_all_else_is_the_transports_own(transport: HeadsWithBodies, bare: Recorded) -> None:
    transport.pause_reading()
    assert bare.told == ["paused"]
    assert not transport.is_closing()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/slow":
        await asyncio.sleep(0.05)
    for piece in (b"first", b"second"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class Watched(WholeAnswers):
    """What is really written to connections, in the order of its writing."""

    writes: ClassVar[list[bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.BaseTransport", _Watching(transport, self.writes)))


class _Watching:
    def __init__(self, transport: asyncio.BaseTransport, writes: list[bytes]) -> None:
        self._transport: Any = transport
        self._writes = writes

    def write(self, data: bytes) -> None:
        self._writes.append(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def test_services_listen_so() -> None:
    assert _listener(_app, "127.0.0.1", 0, 1).config.http is WholeAnswers


@pytest.fixture
async def port() -> AsyncIterator[int]:
    Watched.writes.clear()
    config = uvicorn.Config(
        _app,
        port=0,
        http=Watched,
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        server_header=False,
        date_header=False,
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server._serve())
    while not server.started:
        await asyncio.sleep(0.005)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


async def test_answers_are_as_they_were(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for path in (b"/", b"/slow", b"/"):
        writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
        async with asyncio.timeout(2):
            answer = await reader.readuntil(b"0\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked"
        assert body == b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"
    writer.close()


async def test_a_head_and_what_follows_at_once_are_one_write(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(2):
        await reader.readuntil(b"0\r\n\r\n")
    assert Watched.writes[0] == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    )
    writer.close()


async def test_a_head_does_not_wait_for_a_slow_body(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(2):
        await reader.readuntil(b"\r\n\r\n")
        assert not reader._buffer  # type: ignore[attr-defined]
        await reader.readuntil(b"0\r\n\r\n")
    writer.close()


async def test_a_socket_opens_as_it_did(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with asyncio.timeout(2):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await reader.readexactly(7) == b"\x81\x05hello"
    writer.close()
