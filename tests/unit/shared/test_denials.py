"""A socket that is refused is told why, and nobody else is told of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from websockets.exceptions import InvalidStatus

from shared.http.serve import _listener

HEAD = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-a", b"b")]}
BODY = {"type": "websocket.http.response.body", "body": b"no "}


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    server = _listener(app, "127.0.0.1", 0, drain_seconds=1)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}"
    finally:
        server.leave()
        await task


async def refused(url: str) -> tuple[int, bytes]:
    with pytest.raises(InvalidStatus) as told:
        await websockets.connect(url)
    return told.value.response.status_code, bytes(told.value.response.body)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_refusal_is_told_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(HEAD)
        await send({**BODY, "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"entry"})

    async with served(app) as url:
        assert await refused(url) == (401, b"no entry")
        assert await refused(url) == (401, b"no entry")
    assert errors(caplog) == []


@pytest.mark.parametrize("said", [[], [HEAD], [HEAD, {**BODY, "more_body": True}]])
async def test_one_that_is_left_without_an_answer_is_one(
    caplog: pytest.LogCaptureFixture, said: list[Any]
) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in said:
            await send(message)

    async with served(app) as url:
        with pytest.raises((InvalidStatus, websockets.InvalidMessage)):
            await websockets.connect(url)
    assert errors(caplog) == ["ASGI callable returned without completing handshake."]


async def test_a_bug_is_one(caplog: pytest.LogCaptureFixture) -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise RuntimeError("a bug")

    async with served(app) as url:
        assert (await refused(url))[0] == 500
    assert errors(caplog) == ["Exception in ASGI application\n"]
