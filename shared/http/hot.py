"""Routes that are asked for at every turn, in front of FastAPI instead of inside it.

Such a route is one plain ASGI callable: it reads its own headers and body and writes its answer.
It stands behind the same door as all others (request id, size, log, metrics), its expected failures
become the same problem documents, and `scope["app"].state` holds what other routes find there.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import field
from re import Pattern
from typing import Any

from fastapi import FastAPI

from shared.errors import ExpectedFailure
from shared.http.door import App, Message, Receive, Scope, Send
from shared.http.errors import respond
from shared.http.head import answer_head
from shared.values import dataclass

Answer = Callable[[Scope, Receive, Send], Awaitable[None]]

_PARAMETER = re.compile(r"\{([a-z_]+)(:path)?\}")


@dataclass(frozen=True, slots=True)
class HotRoute:
    """A path template as FastAPI writes it (`{name}`, or `{name:path}` for a rest with slashes).

    A request of another method goes on to FastAPI, which knows what to say to it. Parameters are
    texts in `scope["path_params"]`, as they were sent: the route checks them itself.
    `operation` is what OpenAPI says of it, since FastAPI does not know it.
    """

    path: str
    answer: Answer
    methods: Collection[str] | None = None
    operation: Mapping[str, Any] | None = None
    form: Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "form", _form_of(self.path))


def document_hot_routes(app: FastAPI, routes: Sequence[HotRoute]) -> None:
    """Add the routes' operations to the application's OpenAPI document."""
    without = app.openapi

    def whole() -> dict[str, Any]:
        document = without()
        for route in routes:
            for method in route.methods or () if route.operation else ():
                document["paths"].setdefault(route.path, {})[method.lower()] = route.operation
        return document

    app.openapi = whole  # type: ignore[method-assign]


class HotRoutes:
    """An application with a few routes in front of it. Patterns are tried in their order. Behind
    them whatever takes GET takes HEAD, too."""

    def __init__(self, app: App, routes: Sequence[HotRoute]) -> None:
        self._app = app
        self._routes = tuple(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for route in self._routes:
                found = route.form.match(scope["path"])
                if found and (route.methods is None or scope["method"] in route.methods):
                    scope["app"], scope["route"] = self._app, route
                    scope["path_params"] = found.groupdict()
                    await _answered(route.answer, scope, receive, send)
                    return
            if scope["method"] == "HEAD":
                await answer_head(self._app, scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _answered(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """An expected failure before the answer began is its answer; later it can only break off."""
    begun = False

    async def noted(message: Message) -> None:
        nonlocal begun
        begun = True
        await send(message)

    try:
        await answer(scope, receive, noted)
    except ExpectedFailure as failure:
        if begun:
            raise
        await respond(failure)(scope, receive, send)


def _form_of(path: str) -> Pattern[str]:
    pieces, at = [], 0
    for parameter in _PARAMETER.finditer(path):
        pieces.append(re.escape(path[at : parameter.start()]))
        pieces.append(f"(?P<{parameter[1]}>{'.*' if parameter[2] else '[^/]+'})")
        at = parameter.end()
    return re.compile("".join(pieces) + re.escape(path[at:]) + r"\Z", re.DOTALL)
