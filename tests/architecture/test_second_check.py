"""Where turns are made the gateway may let a token pass whose signing key was removed: each door
behind it looks again, also those that no document names."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, MutableMapping
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from joserfc.jwk import KeySet
from starlette.routing import BaseRoute, Route, WebSocketRoute

from deploy.envoy.gateway import SDK_KEY_HEADERS, TURN_PREFIXES
from shared.http.errors import install_error_handlers
from shared.http.hot import HotRoutes
from shared.scopes import CHAT
from shared.tokens import TokenVerifier
from tests.support.tokens import AUDIENCE, ISSUER, TokenMint

SERVICES = ("chat", "voice")


class Published:
    """The keys that auth shows now."""

    version = 1

    def __init__(self) -> None:
        self._keys = KeySet([TokenMint().key])

    async def current(self) -> KeySet:
        return self._keys

    async def refreshed_for(self, _key_id: str) -> KeySet:
        return self._keys


class Nothing:
    """What is behind the doors: it may be named, and to call it is an error."""

    def __getattr__(self, name: str) -> Nothing:
        return self


class Doors:
    """A service's public doors, with nothing behind them."""

    def __init__(self, service: str) -> None:
        api = importlib.import_module(f"services.{service}.api.routes")
        self._app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        install_error_handlers(self._app)
        self._routers = tuple(api.routers)
        for router in self._routers:
            self._app.include_router(router)
        self._app.state.verifier = TokenVerifier(Published(), issuer=ISSUER, audience=AUDIENCE)
        self._app.state.scope = CHAT
        self._app.state.ended_sessions = self._app.state.actions = Nothing()
        self._hot = getattr(api, "hot_routes", ())
        self.whole = HotRoutes(self._app, self._hot)

    def calls(self) -> Iterator[tuple[str, str]]:
        """Method and path of each, with something for its parameters."""
        for route in (*self._hot, *self._routes(Route)):
            for method in route.methods or ():
                yield method, _filled(route.path)

    def sockets(self) -> Iterator[str]:
        for route in self._routes(WebSocketRoute):
            yield _filled(route.path)

    def _routes(self, kind: type[BaseRoute]) -> Iterator[Any]:
        for router in self._routers:
            yield from (route for route in router.routes if isinstance(route, kind))


def _filled(path: str) -> str:
    return re.sub(r"\{\w+[^}]*\}", str(UUID(int=7)), path.replace("{version}", "v1"))


def _shown() -> dict[str, str]:
    """A token that is good but for its key."""
    return TokenMint().headers(UUID(int=7))


def _ways_to_show(path: str) -> Iterator[dict[str, str]]:
    """The same in each header in which the gateway takes it below that path."""
    shown = _shown()
    yield shown
    for prefix, header in SDK_KEY_HEADERS.items():
        if path.startswith(prefix + "/"):
            yield {header: shown["authorization"].removeprefix("Bearer ")}


@pytest.mark.parametrize("service", SERVICES)
async def test_every_call_is_refused_to_a_token_of_a_removed_key(service: str) -> None:
    doors = Doors(service)
    calls = sorted(set(doors.calls()))
    assert len(calls) > 15, "the search itself must find calls"
    assert all(path.startswith(TURN_PREFIXES) for _, path in calls)
    transport = httpx.ASGITransport(doors.whole)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        statuses = {
            (method, path, next(iter(shown))): (
                await client.request(
                    method,
                    path,
                    headers=shown | {"content-type": "application/json"},
                    content="{}",
                )
            ).status_code
            for method, path in calls
            for shown in _ways_to_show(path)
        }
    assert {call: status for call, status in statuses.items() if status != 401} == {}


@pytest.mark.parametrize("service", SERVICES)
async def test_every_socket_is_refused_to_it_as_well(service: str) -> None:
    doors = Doors(service)
    paths = list(doors.sockets())
    assert paths, "the search itself must find sockets"
    for path in paths:
        for shown in _ways_to_show(path):
            assert await _opened(doors, path, shown) == 401


async def _opened(doors: Doors, path: str, shown: dict[str, str]) -> int:
    """How the opening of a socket is answered."""
    answers: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        answers.append(message)

    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in shown.items()],
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
        "scheme": "ws",
        "server": ("here", 80),
        "client": ("there", 1),
    }
    await doors.whole(scope, receive, send)
    return int(answers[0].get("status", 101))
