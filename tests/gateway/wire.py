"""HTTP/1.1 by hand: a client that sends exactly what it is told and tidies up nothing."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LIMIT = 4 * 1024 * 1024

# What asks for a WebSocket; the key is the example of RFC 6455.
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case; repeated ones joined by a comma
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def send(
    port: int,
    target: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    chunked: bool = False,
) -> Answer:
    """One request on a connection of its own."""
    lines = [f"{method} {target} HTTP/1.1"]
    sent = {"Host": "gateway.test", "Connection": "close", **(headers or {})}
    if chunked:
        sent["Transfer-Encoding"] = "chunked"
        body = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    elif body and "Content-Length" not in sent:
        sent["Content-Length"] = str(len(body))
    lines += [f"{name}: {value}" for name, value in sent.items()]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return await send_bytes(port, head + body, head_only=method == "HEAD")


async def send_bytes(port: int, request: bytes, *, head_only: bool = False) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LIMIT)
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            return await read_answer(reader, head_only=head_only)
    finally:
        writer.close()
        await _closed(writer)


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *fields = head.strip().split("\r\n")
    headers: dict[str, str] = {}
    for field in fields:
        name, _, value = field.partition(":")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(status_line.split()[1]), headers


async def read_answer(reader: asyncio.StreamReader, *, head_only: bool = False) -> Answer:
    status, headers = await read_head(reader)
    if head_only or status in (204, 304):
        return Answer(status, headers, b"")
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while chunk := await read_chunk(reader):
            body += chunk
        return Answer(status, headers, body)
    if "content-length" in headers:
        return Answer(status, headers, await reader.readexactly(int(headers["content-length"])))
    return Answer(status, headers, await reader.read())


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    """The next chunk of a body as it was framed; empty at the end."""
    size = int((await reader.readline()).strip() or b"0", 16)
    data = await reader.readexactly(size)
    await reader.readline()
    return data


async def _closed(writer: asyncio.StreamWriter) -> None:
    try:
        await writer.wait_closed()
    except ConnectionError:
        return


async def open_upgrade(port: int, target: str, headers: Mapping[str, str]) -> int:
    """The status that answers a request to upgrade; what follows is thrown away."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        sent = {"Host": "gateway.test", **headers}
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        async with asyncio.timeout(10):
            return (await read_head(reader))[0]
    finally:
        writer.close()
        await _closed(writer)
