"""The facts that services tell each other: versioned schemas in CloudEvents 1.0 envelopes.

An event's type is its Celery task name; a subscription is a queue binding.
"""

from __future__ import annotations

from shared.events.base import CATALOGUE, Event, Fact, UnreadableEvent
from shared.registry import discover

discover("shared.events")

__all__ = ["CATALOGUE", "Event", "Fact", "UnreadableEvent"]
