"""Chat's doors for HTTP, in the order of the documentation."""

from __future__ import annotations

from services.chat.api import account_export, messages, models, openai_models, sessions

routers = [sessions.router, messages.router, models.router, openai_models.router]
internal_routers = [account_export.router]

__all__ = ["internal_routers", "routers"]
