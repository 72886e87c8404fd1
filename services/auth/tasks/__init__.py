"""The door for queues: the facts that auth reacts to and the work it gives itself."""

from __future__ import annotations

from shared.messaging.subscriptions import Listen
from shared.messaging.upkeep import install_upkeep

listen = Listen("auth")
install_upkeep(listen)

from services.auth.tasks import (  # noqa: E402, F401
    jobs,
    on_billing_news,
    on_limit,
    on_mail,
    on_subscription,
    on_user,
    on_voice,
)
