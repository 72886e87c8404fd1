"""The web process of auth."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.auth.api import INTERNAL_ROUTERS, ROUTERS
from services.auth.api.gauges import keep_gauges
from services.auth.settings import Settings
from services.auth.wiring import Wired, wire_web
from shared.http.app import WebProcess, create_http_app
from shared.scopes import ACCOUNT

# The largest body here is a pair of passwords.
_LARGEST_BODY = 1 << 16


def create_app(settings: Settings | None = None) -> WebProcess:
    """Build the public and the internal application."""
    settings = settings or Settings.from_environment()
    return create_http_app(
        "auth",
        settings,
        wire=partial(_wire_for_web, settings),
        scope=ACCOUNT,
        routers=ROUTERS,
        internal_routers=INTERNAL_ROUTERS,
        largest_body=_LARGEST_BODY,
        description="Accounts, sign-ins and tokens.",
    )


@asynccontextmanager
async def _wire_for_web(settings: Settings) -> AsyncIterator[Wired]:
    async with wire_web(settings) as wired, keep_gauges(wired.actions):
        yield wired
