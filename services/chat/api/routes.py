"""Chat's doors for HTTP, in the order of the documentation."""

from __future__ import annotations

from services.chat.api import (
    account_export,
    dropin_anthropic,
    dropin_gemini,
    dropin_openai,
    live,
    messages,
    models,
    openai_models,
    openai_strays,
    preferences,
    sessions,
    socket,
)
from services.chat.api.ask import ask
from services.chat.api.openai_chat import chat_completions
from services.chat.api.openai_responses import responses

routers = [
    sessions.router,
    messages.router,
    live.router,
    socket.router,
    models.router,
    preferences.router,
    openai_models.router,
    openai_strays.router,
    dropin_openai.router,
    dropin_anthropic.router,
    dropin_anthropic.strays,
    dropin_gemini.router,
]
internal_routers = [account_export.router]

hot_routes = [ask, chat_completions, responses]

__all__ = ["hot_routes", "internal_routers", "routers"]
