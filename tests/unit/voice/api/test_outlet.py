"""A socket's way out: words never wait, audio does, and who does not read is noticed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.voice.api import outlet as module
from services.voice.api.outlet import Outlet


class Wire:
    """A socket that takes frames while it is `open`."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.open = asyncio.Event()
        self.open.set()
        self.closed: tuple[int, str | None] | None = None

    async def send(self, message: dict[str, Any]) -> None:
        await self.open.wait()
        self.sent.append(message.get("text", message.get("bytes")))

    async def close(self, code: int, reason: str | None = None) -> None:
        self.closed = (code, reason)


async def until_idle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_frames_are_written_in_order_and_then_it_is_closed() -> None:
    wire = Wire()
    outlet = Outlet(wire)  # type: ignore[arg-type]
    writing = asyncio.create_task(outlet.write())
    outlet.tell("one")
    await outlet.hand(b"two")
    outlet.tell("three")
    outlet.close(1000, "bye")
    outlet.close(1012, "later")
    await writing
    assert (wire.sent, wire.closed) == (["one", b"two", "three"], (1000, "bye"))
    outlet.tell("nobody hears this")
    with pytest.raises(ConnectionResetError):
        await outlet.hand(b"nor this")


async def test_audio_waits_until_it_is_taken() -> None:
    wire = Wire()
    wire.open.clear()
    outlet = Outlet(wire)  # type: ignore[arg-type]
    writing = asyncio.create_task(outlet.write())
    handing = asyncio.create_task(outlet.hand(b"audio"))
    await until_idle()
    assert not handing.done()
    wire.open.set()
    await handing
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


async def test_who_waits_is_woken_when_the_writer_ends() -> None:
    wire = Wire()
    wire.open.clear()
    outlet = Outlet(wire)  # type: ignore[arg-type]
    writing = asyncio.create_task(outlet.write())
    handing = asyncio.create_task(outlet.hand(b"audio"))
    await until_idle()
    writing.cancel()
    with pytest.raises(ConnectionResetError):
        await handing


async def test_who_does_not_read_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    wire.open.clear()
    outlet = Outlet(wire)  # type: ignore[arg-type]
    writing = asyncio.create_task(outlet.write())
    outlet.tell("one")
    await until_idle()
    assert not outlet.is_stuck()
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", -1.0)
    assert outlet.is_stuck()
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 30.0)
    for _ in range(300):
        outlet.tell("more")
    assert outlet.is_stuck(), "words that nobody takes are not piled up for ever"
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
