"""A web process that is to end lets each connection finish, so that no request meets a cut one."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest

from deploy.companion.ports import free_port
from shared.http.app import WebProcess
from shared.http.serve import serve

_ASK = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"


async def _answer(scope: object, receive: object, send: object) -> None:
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"ok"})  # type: ignore[operator]


@contextlib.asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(_ASK)
    return (await reader.readuntil(b"\r\n\r\n")).lower() + await reader.readexactly(2)


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def _told_to_end_meanwhile() -> AsyncIterator[None]:
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.05)
    yield


@pytest.mark.parametrize("turn_away_seconds", [0, 0.1])
async def test_who_is_told_to_end_while_it_starts_ends(
    monkeypatch: pytest.MonkeyPatch, turn_away_seconds: float
) -> None:
    monkeypatch.setattr("shared.http.serve._settle_memory", lambda: None)
    process = WebProcess(_answer, _answer, lifespan=_told_to_end_meanwhile, stopping=lambda: None)
    unforeseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, told: unforeseen.append(told))
    async with asyncio.timeout(3):
        await serve(
            process,
            host="127.0.0.1",
            port=free_port(),
            internal_port=free_port(),
            turn_away_seconds=turn_away_seconds,
        )
    assert unforeseen == []


async def test_who_is_connected_is_answered_and_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.http.serve._settle_memory", lambda: None)  # this process has others
    port, stopped = free_port(), asyncio.Event()
    process = WebProcess(public=_answer, internal=_answer, lifespan=_nothing, stopping=stopped.set)
    serving = asyncio.create_task(
        serve(
            process, host="127.0.0.1", port=port, internal_port=free_port(), turn_away_seconds=0.4
        )
    )
    reader, writer = await _connected(port)
    assert b"connection: close" not in await _asked(reader, writer)

    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.1)
    assert not stopped.is_set(), "what is long, such as a stream, is not told to end yet"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert b"connection: close" in await _asked(reader, writer)
    assert await reader.read() == b""

    await asyncio.wait_for(serving, 3)
    assert stopped.is_set()
    writer.close()
