"""Billing's web process."""

from __future__ import annotations

from functools import partial

from services.billing.api.routes import internal_routers, routers
from services.billing.settings import Settings
from services.billing.wiring import wire_web
from shared.http.app import WebProcess, create_http_app
from shared.scopes import BILLING_READ


def create_app(settings: Settings | None = None) -> WebProcess:
    """Build it; without settings, from the environment."""
    settings = settings or Settings.from_environment()
    return create_http_app(
        "billing",
        settings,
        wire=partial(wire_web, settings),
        scope=BILLING_READ,
        routers=routers,
        internal_routers=internal_routers,
        description="What was used, what it costs, and the tier that you have.",
    )
