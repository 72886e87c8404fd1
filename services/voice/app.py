"""Voice's web process."""

from __future__ import annotations

from functools import partial

from services.voice.api import routes
from services.voice.api.clones import LARGEST_FORM
from services.voice.settings import Settings
from services.voice.wiring import wire_web
from shared.http.app import WebProcess, create_http_app
from shared.scopes import VOICE


def create_app(settings: Settings | None = None) -> WebProcess:
    """Build it, from the environment unless settings are given."""
    settings = settings or Settings.from_environment()
    return create_http_app(
        "voice",
        settings,
        wire=partial(wire_web, settings),
        scope=VOICE,
        routers=routes.routers,
        internal_routers=routes.internal_routers,
        hot_routes=routes.hot_routes,
        larger_bodies={
            "/voice/voices": LARGEST_FORM,
            "/elevenlabs/v1/voices/add": LARGEST_FORM,
        },
        description=(
            "Text becomes speech, with your own key at the vendor. Text that is still being "
            "written is spoken at `WS /voice/realtime`, which OpenAPI can't describe: see "
            "docs/live-speech.md."
        ),
    )
