"""The facts that chat reacts to, and the work it gives itself."""

from __future__ import annotations

from shared.messaging.replay import install_replay
from shared.messaging.subscriptions import Listen
from shared.messaging.upkeep import install_upkeep

listen = Listen("chat")
install_replay(listen)
install_upkeep(listen)

from services.chat.tasks import jobs, on_key, on_user  # noqa: E402 - they register on `listen`

__all__ = ["jobs", "listen", "on_key", "on_user"]
