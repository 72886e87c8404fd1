"""The facts that voice reacts to, and the work that it gives itself."""

from __future__ import annotations

from shared.messaging.replay import install_replay
from shared.messaging.subscriptions import Listen
from shared.messaging.upkeep import install_upkeep

listen = Listen("voice")
install_replay(listen)
install_upkeep(listen)

from services.voice.tasks import jobs, on_key, on_user  # noqa: E402 - they register on `listen`

__all__ = ["jobs", "listen", "on_key", "on_user"]
