"""More than one replica of chat on the same engines, and what their clients see."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx

from deploy.companion.ports import free_port
from deploy.companion.settings import ROOT
from services.chat.app import create_app
from services.chat.settings import Settings
from shared.http.app import WebProcess
from tests.support.tokens import serving


class Seen(NamedTuple):
    """A server-sent event."""

    number: int
    name: str
    data: dict[str, Any]


def events_of(text: str) -> list[Seen]:
    """The events of a stream, without its pings."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "event" in lines:
            # Only the turn's own events have a number.
            found.append(Seen(int(lines.get("id", "0")), lines["event"], json.loads(lines["data"])))
    return found


def text_of(events: Sequence[Seen]) -> str:
    """What was written of an answer."""
    return "".join(event.data["text"] for event in events if event.name == "delta")


async def next_events(lines: AsyncIterator[str], name: str) -> list[Seen]:
    """Read a running stream up to an event of that name."""
    block: list[str] = []
    found: list[Seen] = []
    async for line in lines:
        block.append(line)
        if not line:
            found += events_of("\n".join(block) + "\n")
            block = []
            if found and found[-1].name == name:
                return found
    raise AssertionError(f"the stream ended without {name}: {found}")


@asynccontextmanager
async def another_replica(settings: Settings) -> AsyncIterator[tuple[str, WebProcess]]:
    """A second chat in this process: its URL."""
    process = create_app(settings)
    async with process.lifespan(), serving(process.public) as url:
        yield url, process


@dataclass
class ChatProcess:
    """A chat in a process of its own, which can be killed."""

    url: str
    internal_url: str
    child: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def stop(self) -> int:
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(30)


@asynccontextmanager
async def chat_process(settings: Settings, **changes: str) -> AsyncIterator[ChatProcess]:
    """Started with the same settings, apart from what is changed."""
    port = free_port()
    internal_port = free_port(avoid={port})
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "CACHE_URL": settings.cache_url.get_secret_value(),
        "BROKER_URL": settings.broker_url.get_secret_value(),
        "JWKS_URL": settings.jwks_url,
        "IDENTITY_KEY_FILE": str(settings.identity_key_file),
        "IDENTITY_TRUST_FILE": str(settings.identity_trust_file),
        "EGRESS_URL": settings.egress_url,
        **changes,
    }
    command = [sys.executable, "-m", "shared.http.serve", "services.chat.app"]
    ports = ["--port", str(port), "--internal-port", str(internal_port)]
    child = subprocess.Popen([*command, *ports], cwd=ROOT, env=environment)
    process = ChatProcess(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{internal_port}", child)
    try:
        await _until_ready(process)
        yield process
    finally:
        if child.poll() is None:
            process.stop()


async def _until_ready(process: ChatProcess) -> None:
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(120):
        while True:
            assert process.child.poll() is None, "it ended"
            try:
                if (await client.get(f"{process.internal_url}/readyz")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.05)
