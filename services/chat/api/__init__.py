"""Chat's doors for HTTP, in the order of the documentation."""

from __future__ import annotations

from services.chat.api import messages, models, sessions

routers = [sessions.router, messages.router, models.router]

__all__ = ["routers"]
