"""The web process of the keyvault."""

from __future__ import annotations

from functools import partial

from services.keyvault.api.routes import internal_hot_routes, internal_routers, routers
from services.keyvault.settings import Settings
from services.keyvault.wiring import wire_web
from shared.http.app import WebProcess, create_http_app
from shared.scopes import KEYS

_LARGEST_BODY = 16 << 10  # a key has 512 characters at most


def create_app(settings: Settings | None = None) -> WebProcess:
    """Build it; what it needs comes from the environment."""
    settings = settings or Settings.from_environment()
    return create_http_app(
        "keyvault",
        settings,
        wire=partial(wire_web, settings),
        scope=KEYS,
        routers=routers,
        internal_routers=internal_routers,
        internal_hot_routes=internal_hot_routes,
        largest_body=_LARGEST_BODY,
        description="Users' keys for AI vendors: stored sealed, checked, never given back.",
    )
