"""The facts that chat reacts to, and the work it gives itself."""

from __future__ import annotations

from services.chat.tasks._listen import listen

from services.chat.tasks import jobs, on_key  # isort: skip
from shared.messaging.replay import install_replay

install_replay(listen)

__all__ = ["jobs", "listen", "on_key"]
