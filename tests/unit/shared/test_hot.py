"""Hot routes: in front of FastAPI, behind the same door."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from shared.errors import NotFound
from shared.http.door import Door, Receive, Scope, Send
from shared.http.errors import PROBLEM, install_error_handlers
from shared.http.hot import HotRoute, HotRoutes


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = (await receive()).get("body", b"")
    name = scope["path_params"].get("name", "")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    content = f"{scope['app'].state.thing} {name} ".encode() + body
    await send({"type": "http.response.body", "body": content})


async def missing(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotFound("No such thing.", thing="77")


async def bug(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("hunter-two")


async def late(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    raise NotFound("Too late.")


ROUTES = (
    HotRoute("/things/{name}", echo, {"POST"}),
    HotRoute("/calls/{name:path}", echo),
    HotRoute("/v1.0/echo", echo),
    HotRoute("/missing", missing),
    HotRoute("/bug", bug),
    HotRoute("/late", late),
)


def door() -> Door:
    app = FastAPI(redirect_slashes=False)
    app.state.thing = "state"
    install_error_handlers(app)

    @app.get("/things/{name}")
    async def show(name: str) -> str:
        return f"FastAPI's {name}"

    return Door(HotRoutes(app, ROUTES), service="hot", largest_body=100, sandbox=False)


async def ask(method: str, path: str, **parts: Any) -> httpx.Response:
    transport = httpx.ASGITransport(door(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://hot") as client:
        return await client.request(method, path, **parts)


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("POST", "/things/a", "state a x"),
        ("POST", "/things/a%20b", "state a b x"),
        ("PUT", "/calls/a/b//c", "state a/b//c x"),
        ("GET", "/calls/", "state  x"),
        ("GET", "/v1.0/echo", "state  x"),
        ("GET", "/calls/a%0Ab", "state a\nb x"),
    ],
)
async def test_a_hot_route_answers_by_itself(method: str, path: str, text: str) -> None:
    answer = await ask(method, path, content=b"x", headers={"x-request-id": "request-77"})
    assert (answer.status_code, answer.text) == (200, text)
    assert answer.headers["x-request-id"] == "request-77"


async def test_what_is_not_theirs_goes_on_to_fastapi() -> None:
    assert (await ask("GET", "/things/a")).json() == "FastAPI's a"
    for method, path, status in (
        ("DELETE", "/things/a", 405),
        ("POST", "/things/", 404),
        ("POST", "/things/a/b", 404),
        ("POST", "/things/a/", 404),
        ("POST", "/xthings/a", 404),
        ("GET", "/v1x0/echo", 404),
        ("GET", "/calls", 404),
        ("GET", "/missing/x", 404),
    ):
        answer = await ask(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
        assert answer.json()["code"] in {"route_not_found", "method_not_allowed"}


async def test_its_failures_are_the_same_documents() -> None:
    answer = await ask("GET", "/missing")
    assert (answer.status_code, answer.json()["thing"]) == (404, "77")
    assert answer.headers["content-type"] == PROBLEM
    answer = await ask("GET", "/bug")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "hunter-two" not in answer.text
    answer = await ask("POST", "/things/a", content=b"x" * 101)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_failure_after_the_answer_began_breaks_it_off() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": "/late", "headers": []}
    await door()(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


async def test_it_is_counted_by_its_template() -> None:
    def counted() -> float:
        labels = {"service": "hot", "method": "POST", "route": "/things/{name}", "status": "200"}
        return REGISTRY.get_sample_value("companion_http_requests_total", labels) or 0

    before = counted()
    await ask("POST", "/things/17", content=b"x")
    assert counted() == before + 1
