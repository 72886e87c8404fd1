"""The vendors' wires, one module each, found by import. A leading underscore is no vendor."""

from __future__ import annotations

from services.chat.providers._registry import MakeProvider, Patience, chat_providers
from shared.registry import discover

discover("services.chat.providers")

__all__ = ["MakeProvider", "Patience", "chat_providers"]
