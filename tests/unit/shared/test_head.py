"""HEAD is answered as GET is, and nothing comes behind the head."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from prometheus_client import REGISTRY

from shared.errors import NotFound
from shared.http.door import Door, Receive, Scope, Send
from shared.http.errors import PROBLEM, install_error_handlers
from shared.http.hot import HotRoute, HotRoutes
from shared.http.serve import _listener

PIECE = b"piece" * 1_000


class Written:
    """An answer that never ends by itself, in plain ASGI as the live answers are."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        gone = asyncio.create_task(watch())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while not gone.done():
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        finally:
            gone.cancel()
            self.ended.set()


class Service:
    """An application with a route of each kind, and what became of those that stream."""

    def __init__(self) -> None:
        self.pieces = 0
        self.written = Written()
        self.asked_hot: list[str] = []
        self.door = Door(
            HotRoutes(self._application(), (HotRoute("/hot", self._hot, {"POST"}),)),
            service="head",
            largest_body=100,
            sandbox=True,
        )

    def _application(self) -> FastAPI:
        app = FastAPI(redirect_slashes=False)
        install_error_handlers(app)

        @app.get("/things/{name}")
        async def show(name: str, response: Response) -> dict[str, str]:
            response.headers["etag"] = f'"{name}"'
            return {"name": name}

        @app.get("/missing")
        async def missing() -> None:
            raise NotFound("No such thing.")

        @app.get("/bug")
        async def bug() -> None:
            raise RuntimeError

        @app.get("/file")
        async def file() -> StreamingResponse:
            return StreamingResponse(self._endless(), media_type="text/csv")

        @app.get("/written")
        async def written() -> Any:
            return _Plain(self.written)

        @app.post("/made")
        async def make() -> None: ...

        return app

    async def _endless(self) -> AsyncIterator[bytes]:
        while True:
            self.pieces += 1
            yield PIECE

    async def _hot(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.asked_hot.append(scope["method"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hot"})


class _Plain(Response):
    def __init__(self, app: Written) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """By the server that a process has: it is its HTTP that is looked at."""
    service = Service()
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
        server = _listener(service.door, "127.0.0.1", port, 1)
        running = asyncio.create_task(server.serve(sockets=[place]))
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
                yield service, client
        finally:
            server.leave()
            await running


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/things/a", 200),
        ("/missing", 404),
        ("/nowhere", 404),
        ("/bug", 500),
        ("/made", 405),
        ("/hot", 404),
        ("/openapi.json", 200),
    ],
)
async def test_head_has_the_head_that_get_has(path: str, status: int) -> None:
    async with served() as (_, client):
        id_ = {"x-request-id": "request-77"}
        got = await client.get(path, headers=id_)
        head = await client.head(path, headers=id_)
        assert (head.status_code, head.headers.raw, head.content) == (
            status,
            got.headers.raw,
            b"",
        )
        assert int(head.headers["content-length"]) == len(got.content) > 0
        assert (head.headers["content-type"] == PROBLEM) == (status >= 400)


async def test_nothing_of_an_answer_stays_on_its_connection() -> None:
    """Else a client would read it as the head of its next one."""
    async with served() as (_, client):
        _, writer = connection = await asyncio.open_connection(
            client.base_url.host, client.base_url.port
        )
        asked = "".join(
            f"{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: {goes}\r\n\r\n"
            for method, path, goes in (
                ("HEAD", "/things/a", "keep-alive"),
                ("HEAD", "/file", "keep-alive"),
                ("HEAD", "/written", "keep-alive"),
                ("HEAD", "/missing", "keep-alive"),
                ("GET", "/things/b", "close"),
            )
        )
        writer.write(asked.encode())
        answers = (await connection[0].read()).split(b"HTTP/1.1 ")[1:]
        writer.close()
    assert [answer[:3] for answer in answers] == [b"200", b"200", b"200", b"404", b"200"]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [
        *([b""] * 4),
        b'{"name":"b"}',
    ]


async def test_a_stream_ends_with_its_head() -> None:
    async with served() as (service, client):
        async with asyncio.timeout(5):
            assert (await client.head("/written")).status_code == 200
            await service.written.ended.wait()
            head = await client.head("/file")
            assert head.headers["content-type"] == "text/csv; charset=utf-8"
            made = service.pieces
            await asyncio.sleep(0.05)
        assert service.pieces == made <= 3


async def test_a_hot_route_is_asked_by_its_own_methods_alone() -> None:
    async with served() as (service, client):
        await client.head("/hot")
        await client.post("/hot")
    assert service.asked_hot == ["POST"]


async def test_what_takes_get_is_told_to_take_head() -> None:
    async with served() as (_, client):
        assert (await client.put("/things/a")).headers["allow"] == "GET, HEAD"
        assert (await client.head("/made")).headers["allow"] == "POST"
        assert "head" not in (await client.get("/openapi.json")).text


async def test_it_is_counted_as_head_by_its_template() -> None:
    def counted() -> float:
        labels = {"service": "head", "method": "HEAD", "route": "/things/{name}", "status": "200"}
        return REGISTRY.get_sample_value("companion_http_requests_total", labels) or 0

    before = counted()
    async with served() as (_, client):
        await client.head("/things/a")
    assert counted() == before + 1
