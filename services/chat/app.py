"""Chat's web process."""

from __future__ import annotations

from functools import partial

from services.chat.api.routes import hot_routes, internal_routers, routers
from services.chat.settings import Settings
from services.chat.wiring import wire_web
from shared.http.app import WebProcess, create_http_app
from shared.scopes import CHAT

LARGEST_BODY = 25 << 20


def create_app(settings: Settings | None = None) -> WebProcess:
    """Build it; without settings, from the environment."""
    settings = settings or Settings.from_environment()
    return create_http_app(
        "chat",
        settings,
        wire=partial(wire_web, settings),
        scope=CHAT,
        routers=routers,
        internal_routers=internal_routers,
        hot_routes=hot_routes,
        largest_body=LARGEST_BODY,
        description="Conversations with the vendors' models, on your own keys.",
    )
