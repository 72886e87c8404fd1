"""The door for queues: the facts that auth reacts to and the work it gives itself."""

from __future__ import annotations

from shared.messaging.subscriptions import Listen

listen = Listen("auth")

from services.auth.tasks import jobs, on_subscription  # noqa: E402, F401 - they register here
