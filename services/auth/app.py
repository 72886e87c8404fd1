"""The web process of auth."""

from __future__ import annotations

from functools import partial

from services.auth.api.routes import INTERNAL_ROUTERS, ROUTERS
from services.auth.settings import Settings
from services.auth.wiring import wire_web
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
        wire=partial(wire_web, settings),
        scope=ACCOUNT,
        routers=ROUTERS,
        internal_routers=INTERNAL_ROUTERS,
        largest_body=_LARGEST_BODY,
        description="Accounts, sign-ins and tokens.",
    )
