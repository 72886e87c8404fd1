"""The facts that billing reacts to, and the work that it gives itself."""

from __future__ import annotations

from shared.messaging.subscriptions import Listen
from shared.messaging.upkeep import install_upkeep

listen = Listen("billing")
install_upkeep(listen)

from services.billing.tasks import (  # noqa: E402 - they register on `listen`
    jobs,
    on_limit,
    on_organisation,
    on_usage,
    on_user,
)

__all__ = ["jobs", "listen", "on_limit", "on_organisation", "on_usage", "on_user"]
