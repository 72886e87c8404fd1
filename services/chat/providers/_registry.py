"""The family of vendors' wires."""

from __future__ import annotations

from datetime import timedelta

from services.chat.providers._wire import Wire
from shared.registry import Registry
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a vendor may be silent before its answer, and within it."""

    first_byte: timedelta = timedelta(seconds=60)
    silence: timedelta = timedelta(seconds=120)


chat_wires: Registry[Wire] = Registry("chat wire")
