"""The vendors' wires, one module each, found by import. A leading underscore is no vendor."""

from __future__ import annotations

from services.chat.providers._calling import RawEgress, SpokenProvider
from services.chat.providers._registry import Patience, chat_wires
from shared.clients.egress import Egress
from shared.registry import discover

discover("services.chat.providers")


def speaking(egress: Egress, patience: Patience) -> dict[str, SpokenProvider]:
    """Every vendor that chat speaks to, over this egress."""
    return {name: SpokenProvider(wire, egress, patience) for name, wire in chat_wires.items()}


__all__ = ["Patience", "RawEgress", "SpokenProvider", "chat_wires", "speaking"]
