"""What the documentation says of who may call: read off the dependencies that let callers in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from shared.http.caller import AlsoHolding, Holding, SdkSignedIn, signed_in
from shared.http.hot import HotRoute
from shared.http.problems import problems

BEARER = "bearer"
SDK_KEY_HEADERS = {
    "/anthropic": "x-api-key",
    "/gemini": "x-goog-api-key",
    "/elevenlabs": "xi-api-key",
}
"""Below each prefix, the header in which a vendor's SDK may send the token, too."""

_SCHEMES: dict[str, Any] = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token, or a personal one that holds the scopes named here.",
    },
    **{
        header: {
            "type": "apiKey",
            "in": "header",
            "name": header,
            "description": "The same token, where the vendor's SDK puts its key.",
        }
        for header in SDK_KEY_HEADERS.values()
    },
}

Security = list[dict[str, list[str]]]


def give_security(routers: Sequence[APIRouter], scope: str) -> None:
    """Let each route say which scopes its token needs, and that it answers 401 without one;
    `scope` is the service's. Those that ask for no token say so with an empty list."""
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                needed = sorted(_scopes(route, scope))
                told = security_of(route.path, needed) if needed else []
                route.openapi_extra = {**(route.openapi_extra or {}), "security": told}
                if told:
                    route.responses = {**problems(401), **route.responses}


def security_of(path: str, scopes: Sequence[str]) -> Security:
    """OpenAPI's words for it: one of these, with all of the scopes."""
    headers = [
        header for prefix, header in SDK_KEY_HEADERS.items() if path.startswith(f"{prefix}/")
    ]
    return [{scheme: list(scopes)} for scheme in (BEARER, *headers)]


def document_security(app: FastAPI, hot_routes: Sequence[HotRoute], scope: str) -> None:
    """Add the schemes to the application's OpenAPI document, and what hot routes need: each of
    them asks for the service's scope."""
    without = app.openapi

    def whole() -> dict[str, Any]:
        document = without()
        for route in hot_routes:
            for operation in document["paths"].get(route.path, {}).values():
                operation.setdefault("security", security_of(route.path, [scope]))
        used = {
            scheme
            for path in document["paths"].values()
            for operation in path.values()
            for one in operation["security"]
            for scheme in one
        }
        document.setdefault("components", {})["securitySchemes"] = {
            name: scheme for name, scheme in _SCHEMES.items() if name in used
        }
        return document

    app.openapi = whole  # type: ignore[method-assign]


def _scopes(route: APIRoute, scope: str) -> set[str]:
    found = {scope} if getattr(route, "asks_for_token", False) else set()
    for call in _calls(route.dependant):
        if call is signed_in or isinstance(call, SdkSignedIn):
            found.add(scope)
        elif isinstance(call, Holding | AlsoHolding):
            found.add(call.scope)
    return found


def _calls(dependant: Dependant) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _calls(inner)
