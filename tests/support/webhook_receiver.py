"""A receiver of webhooks on loopback: takes them as a customer would, or misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook

Write = Callable[[bytes], Awaitable[None]]
Answer = Callable[[Write], Awaitable[None]]

OK = b"HTTP/1.1 204 No Content\r\n\r\n"


def status(code: int, *headers: str, body: bytes = b"") -> Answer:
    """A whole answer."""

    async def answer(write: Write) -> None:
        lines = [f"HTTP/1.1 {code} Whatever", f"Content-Length: {len(body)}", *headers]
        await write("\r\n".join([*lines, "", ""]).encode() + body)

    return answer


async def hang(_write: Write) -> None:
    """No answer at all."""
    await asyncio.sleep(60)


async def drip(write: Write) -> None:
    """An answer whose headers never end."""
    await write(b"HTTP/1.1 200 OK\r\n")
    while True:
        await write(b"X-Slow: 1\r\n")
        await asyncio.sleep(0.02)


async def flood(write: Write) -> None:
    """An answer whose body never ends."""
    await write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def type(self) -> str:
        return str(self.json["type"])

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def verified(self, secret: str) -> dict[str, Any]:
        """As a receiver checks it. Raises WebhookVerificationError."""
        return dict(Webhook(secret).verify(self.body, self.headers))


@dataclass
class Receiver:
    """Where a receiver listens, how it answers, and what it got."""

    port: int = 0
    answer: Answer = field(default_factory=lambda: status(204))
    received: list[Received] = field(default_factory=list)
    written: int = 0
    now: int = 0
    most_at_once: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    @property
    def types(self) -> list[str]:
        return [one.type for one in self.received]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()
            self.written += len(data)

        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = [line.split(": ", 1) for line in head[1:] if line]
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.received.append(Received(headers, body))
            await self.answer(write)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.now -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def receiving(
    answer: Answer | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """A receiver that listens while the block runs."""
    receiver = Receiver()
    if answer is not None:
        receiver.answer = answer
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        # Cancelled by the end of the block alone.
        with suppress(asyncio.CancelledError):
            await receiver._serve(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def write_webhook_keys(path: Path, *versions: int) -> Path:
    """A file of sealing keys."""
    keys = [
        {"version": version, "key": b64encode(os.urandom(32)).decode()}
        for version in versions or (1,)
    ]
    path.write_text(json.dumps({"sealing_keys": keys}))
    return path
