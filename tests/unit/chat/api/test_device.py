"""A device whose question waits for its turn, and what it says and does meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from starlette.websockets import WebSocket
from structlog.testing import capture_logs

from services.chat.actions import Actions
from services.chat.api.device import Device
from services.chat.domain.question import Question
from shared.http.caller import Caller
from shared.limits.pace import Gone, Paces
from shared.tokens import Identity
from tests.support.chat import ada

_FOR_EVER = timedelta(days=1)
LONG = "x" * 40_000
SEND = {"op": "send", "session_id": str(uuid4()), "content": "hello"}


class Waiting:
    """A house in which nobody's turn comes, and a device at its door."""

    def __init__(self) -> None:
        self.asked = 0
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.said.put_nowait({"type": "websocket.connect"})
        self.paces = Paces({"free": 0.001}, longest=_FOR_EVER)
        self.devices = SimpleNamespace(gone=self._gone)

    async def ask_live(self, _question: Question, gone: Gone) -> None:
        self.asked += 1
        async with self.paces.turn("free", "ada", gone):
            raise AssertionError

    async def serve(self) -> None:
        """Until the device has left."""
        async with self.paces.turn("free", "early"):
            pass
        scope = {"type": "websocket", "path": "/", "headers": []}
        socket = WebSocket(scope, self.said.get, _to_nobody)
        await socket.accept()
        identity = Identity(
            ada, "free", "member", None, frozenset(), uuid4(), int(time.time()) + 900, 0
        )
        device = Device(
            socket, cast(Actions, self), Caller(identity, "token"), door=cast(Any, None)
        )
        await device.serve(None)

    def say(self, word: dict[str, Any]) -> None:
        self.said.put_nowait({"type": "websocket.receive", "text": json.dumps(word)})

    async def _gone(self, _device: Device) -> None:
        """It is in no room."""


async def _to_nobody(_message: Any) -> None:
    """What it hears is not looked at."""


@asynccontextmanager
async def a_waiting_device() -> AsyncIterator[tuple[Waiting, asyncio.Task[None]]]:
    """Its first question waits."""
    house = Waiting()
    house.say(SEND)
    serving = asyncio.create_task(house.serve())
    try:
        async with asyncio.timeout(10):
            while not house.paces.waiting("free"):
                await asyncio.sleep(0)
            yield house, serving
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize(("word", "kept"), [({"op": "ping"}, 16), (SEND | {"content": LONG}, 2)])
async def test_of_what_a_waiting_device_says_so_much_is_kept(
    word: dict[str, Any], kept: int
) -> None:
    """The rest stays with whoever sends it: a socket in line costs no more than one that reads."""
    async with a_waiting_device() as (house, _serving):
        for _ in range(20):
            house.say(word)
        for _ in range(100):
            await asyncio.sleep(0)
        assert 20 - house.said.qsize() == kept


async def test_a_device_that_leaves_with_more_questions_waiting_is_simply_gone() -> None:
    with capture_logs() as logs:
        async with a_waiting_device() as (house, serving):
            for _ in range(2):
                house.say(SEND)
            house.said.put_nowait({"type": "websocket.disconnect", "code": 1001})
            await serving
    assert house.asked == 3
    assert house.paces.waiting("free") == 0
    assert [log["event"] for log in logs if log["log_level"] == "error"] == []
