"""The facts that voice reacts to, and the work that it gives itself."""

from __future__ import annotations

from shared.messaging.replay import install_replay
from shared.messaging.subscriptions import Listen

listen = Listen("voice")
install_replay(listen)

from services.voice.tasks import jobs, on_key  # noqa: E402 - they register themselves on `listen`

__all__ = ["jobs", "listen", "on_key"]
