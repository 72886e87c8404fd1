"""The family of chat providers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from services.chat.domain.ports import ChatProvider
from shared.clients.egress import Egress
from shared.registry import Registry


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a vendor may be silent before its answer, and within it."""

    first_byte: timedelta = timedelta(seconds=60)
    silence: timedelta = timedelta(seconds=120)


MakeProvider = Callable[[Egress, Patience], ChatProvider]
chat_providers: Registry[MakeProvider] = Registry("chat provider")
