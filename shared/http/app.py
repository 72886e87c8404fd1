"""The web process of a service: its public application, and the internal one beside it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Protocol

import httpx
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.http.caller import RemoteKeys
from shared.http.door import App, Door
from shared.http.errors import install_error_handlers
from shared.http.hot import HotRoute, HotRoutes, document_hot_routes
from shared.http.problems import (
    document_no_more_than_answered,
    document_what_any_door_answers,
    problems,
)
from shared.http.readiness import Check, states_of
from shared.http.saturation import watch_connections
from shared.http.security import document_security, give_security
from shared.identity import Peers
from shared.news.ended_sessions import EndedSessions
from shared.news.living_sessions import VerifierOfTheLiving, Verifies
from shared.settings import CommonSettings, report_unknown_settings
from shared.telemetry import tracing
from shared.telemetry.logging import configure_logging
from shared.tokens import TokenVerifier
from shared.valkey import open_cache
from shared.values import dataclass

ONE_MEBIBYTE = 1 << 20


class Wired(Protocol):
    """What `wiring.wire(settings)` yields: the service's verbs, and how to tell it is ready."""

    @property
    def actions(self) -> Any: ...

    @property
    def checks(self) -> Mapping[str, Check]: ...


@dataclass(frozen=True, slots=True)
class WebProcess:
    """What `shared.http.serve` runs: one application per port, started and stopped together.
    `stopping` is called when it is asked to stop, while everything is still open."""

    public: App
    internal: App
    lifespan: Callable[[], AbstractAsyncContextManager[None]]
    stopping: Callable[[], None]


def create_http_app(
    service: str,
    settings: CommonSettings,
    *,
    wire: Callable[[], AbstractAsyncContextManager[Wired]],
    scope: str,
    routers: Sequence[APIRouter],
    internal_routers: Sequence[APIRouter] = (),
    hot_routes: Sequence[HotRoute] = (),
    internal_hot_routes: Sequence[HotRoute] = (),
    largest_body: int = ONE_MEBIBYTE,
    larger_bodies: Mapping[str, int] | None = None,
    description: str = "",
) -> WebProcess:
    """Build the web process. `scope`: what a token must be good for on the public routes. Hot
    routes are tried before the routers and stand behind the same door. `larger_bodies`: by path,
    where more is taken than `largest_body`.

    `app.state` of both applications holds `actions`, `verifier`, `ended_sessions`, `peers`, `scope`
    and `settings` once the lifespan has begun.
    """
    configure_logging(service, settings.log_level)
    report_unknown_settings()
    public = _public(service, description, scope, routers, hot_routes)
    internal = _internal(service, internal_routers)
    stoppers: list[Callable[[], None]] = []
    return WebProcess(
        public=Door(
            HotRoutes(public, hot_routes),
            service=service,
            largest_body=largest_body,
            larger_bodies=larger_bodies,
            sandbox=settings.sandbox,
        ),
        internal=Door(
            HotRoutes(internal, internal_hot_routes),
            service=service,
            largest_body=ONE_MEBIBYTE,
            sandbox=settings.sandbox,
        ),
        lifespan=partial(_opened, service, settings, wire, scope, (public, internal), stoppers),
        stopping=partial(_stop, stoppers),
    )


def _public(
    service: str,
    description: str,
    scope: str,
    routers: Sequence[APIRouter],
    hot_routes: Sequence[HotRoute],
) -> FastAPI:
    app = _application(service, description)
    give_security(routers, scope)
    for router in routers:
        _give_headlines(router)
        app.include_router(router)
    document_no_more_than_answered(app)
    document_hot_routes(app, hot_routes)
    document_what_any_door_answers(app)
    document_security(app, hot_routes, scope)
    return app


def _internal(service: str, routers: Sequence[APIRouter]) -> FastAPI:
    app = _application(f"{service} (internal)", "")
    for router in routers:
        app.include_router(router)
    app.include_router(_health())
    return app


@asynccontextmanager
async def _opened(
    service: str,
    settings: CommonSettings,
    wire: Callable[[], AbstractAsyncContextManager[Wired]],
    scope: str,
    apps: Sequence[FastAPI],
    stoppers: list[Callable[[], None]],
) -> AsyncIterator[None]:
    """The lifespan of both applications."""
    peers = Peers.of_setting(service, settings.identity_trust_file)
    async with (
        _traced(service),
        httpx.AsyncClient(trust_env=False) as client,
        open_cache(settings.cache_url.get_secret_value()) as cache,
        wire() as wired,
    ):
        keys = RemoteKeys(settings.jwks_url, client)
        verifier: Verifies = TokenVerifier(
            keys, issuer=settings.token_issuer, audience=settings.token_audience
        )
        # Only a service that hears of ended sessions knows which go on.
        living = getattr(wired, "living_sessions", None)
        if living is not None:
            verifier = VerifierOfTheLiving(verifier, living)
        for app in apps:
            app.state.actions = wired.actions
            app.state.checks = wired.checks
            app.state.verifier = verifier
            app.state.ended_sessions = EndedSessions(cache)
            app.state.scope = scope
            app.state.peers = peers
            app.state.settings = settings
        database = getattr(wired, "database", None)
        if database is not None:
            watch_connections(service, database)
        # Only a service that holds connections open has something to say.
        stopper = getattr(wired, "stopping", None)
        stoppers[:] = [stopper] if stopper is not None else []
        yield


def _stop(stoppers: Sequence[Callable[[], None]]) -> None:
    for stopper in stoppers:
        stopper()


@asynccontextmanager
async def _traced(service: str) -> AsyncIterator[None]:
    with tracing.traced(service):
        yield


def _application(title: str, description: str) -> FastAPI:
    app = FastAPI(
        title=f"ToolTip Companion: {title}",
        description=description,
        version="0.1.0",
        docs_url=None,
        redoc_url=None,
        # A path is right or wrong; a redirect would lose the body and show internal hosts.
        redirect_slashes=False,
        # Ours is at the door. FastAPI's own would tell of exceptions and of what was sent.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
        # Any route may be asked badly or by whom it is not for, and meet a dependency that is away.
        responses=problems(400, 403, 422, 503),
    )
    install_error_handlers(app)
    return app


def _give_headlines(router: APIRouter) -> None:
    """In the documentation a route is called by its docstring's first sentence, where it has no
    headline of its own; FastAPI would take the function's name."""
    for route in router.routes:
        if isinstance(route, APIRoute) and route.summary is None and route.description:
            route.summary = " ".join(re.split(r"[.:;](?:\s|$)", route.description)[0].split())


def _health() -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def alive() -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def ready(request: Request) -> dict[str, Any]:
        """Every dependency that is needed answers; else 503 and which one does not."""
        return {"status": "ok", "dependencies": await states_of(request.app.state.checks)}

    @router.get("/metrics")
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router
