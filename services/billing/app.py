"""Billing's web process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.billing.api import internal_routers, routers
from services.billing.api.gauges import keep_gauges
from services.billing.api.webhook_pump import WebhookPump
from services.billing.settings import Settings
from services.billing.wiring import Wired, wire
from shared.background import running_beside
from shared.http.app import WebProcess, create_http_app
from shared.scopes import BILLING_READ


def create_app(settings: Settings | None = None) -> WebProcess:
    """Build it; without settings, from the environment."""
    settings = settings or Settings.from_environment()
    return create_http_app(
        "billing",
        settings,
        wire=partial(_wire_for_web, settings),
        scope=BILLING_READ,
        routers=routers,
        internal_routers=internal_routers,
        description="What was used, what it costs, and the tier that you have.",
    )


@asynccontextmanager
async def _wire_for_web(settings: Settings) -> AsyncIterator[Wired]:
    async with (
        wire(settings) as wired,
        keep_gauges(wired.actions),
        running_beside(WebhookPump(wired.actions.deliver_webhooks).run()),
    ):
        yield wired
