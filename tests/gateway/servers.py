"""Stand-ins for what lies behind a proxy: they answer with what they received."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from deploy.envoy.render import Endpoint

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body_bytes: int = 0

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(values) if values else None


@dataclass(slots=True)
class StandIn:
    """A server that echoes, streams or speaks WebSocket, by the end of the path."""

    name: str
    endpoint: Endpoint
    keys: dict[str, Any] = field(default_factory=dict)
    up: bool = True  # whether it shows its keys
    keys_shown: int = 0
    received: list[Received] = field(default_factory=list)
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    override: Handler | None = None  # answers in place of everything below
    seconds_between_events: float = 0.05

    @property
    def last(self) -> Received:
        return self.received[-1]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.override is not None:
            return await self.override(request)
        path = request.raw_path
        if path == "/.well-known/jwks.json" and self.keys:
            self.keys_shown += 1
            return web.json_response(self.keys) if self.up else web.Response(status=503)
        got = Received(
            request.method, path, [(name.lower(), value) for name, value in request.headers.items()]
        )
        self.received.append(got)
        plain = path.partition("?")[0]
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._speak(request, got)
        if plain.endswith("/sse") or "events" in request.query:
            return await self._stream(request)
        if plain.endswith("/slow"):
            await asyncio.sleep(3)
        if "/answers/" in plain:
            status = int(plain.rpartition("/")[2])
            return web.Response(
                status=status, text="as the service says", headers={"retry-after": "7"}
            )
        if plain.endswith(("/hangs-up", "/nonsense")) and request.transport is not None:
            request.transport.write(b"no HTTP at all\r\n\r\n" * plain.endswith("/nonsense"))
            request.transport.close()
        # Read piece by piece: the server's own limit for whole bodies is not what we test.
        async for piece in request.content.iter_any():
            got.body_bytes += len(piece)
        return web.json_response(self._seen(got), headers={"x-user-id": "from the service"})

    def _seen(self, got: Received) -> dict[str, Any]:
        return {
            "server": self.name,
            "method": got.method,
            "path": got.path,
            "headers": got.headers,
            "body_bytes": got.body_bytes,
        }

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            for number in range(int(request.query.get("events", "5"))):
                await response.write(f"data: {number}\n\n".encode())
                await asyncio.sleep(self.seconds_between_events)
        except (ConnectionError, asyncio.CancelledError):
            self.aborted.set()
            raise
        return response

    async def _speak(self, request: web.BaseRequest, got: Received) -> web.StreamResponse:
        offered = [name.strip() for name in (got.header("sec-websocket-protocol") or "").split(",")]
        speaking = web.WebSocketResponse(protocols=offered[:1])
        await speaking.prepare(request)
        await speaking.send_json(self._seen(got))
        async for message in speaking:
            if message.type is not WSMsgType.TEXT:
                break
            if message.data == "close":
                await speaking.close(code=1008, message=b"enough")
                break
            await speaking.send_str(f"{self.name}: {message.data}")
        return speaking


@asynccontextmanager
async def serving(
    name: str, *, keys: Mapping[str, Any] | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[StandIn]:
    """A stand-in on a free port of loopback, for as long as the block runs."""
    listener = socket.create_server(("127.0.0.1", 0))
    stand_in = StandIn(name, Endpoint("127.0.0.1", listener.getsockname()[1]), dict(keys or {}))
    # Cancelled when the client is gone: that is how a test sees that an abort arrived.
    server = web.Server(
        stand_in.handle, handler_cancellation=True, max_field_size=32_768, max_line_size=32_768
    )
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listener, ssl_context=tls).start()
    try:
        yield stand_in
    finally:
        await runner.cleanup()


def free_endpoint() -> Endpoint:
    """A port on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Endpoint("127.0.0.1", listener.getsockname()[1])
