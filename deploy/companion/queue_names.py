"""The queues of all services, for whoever looks at a broker without the services' own rooms.

The operators' image has no need of the libraries that handlers import; a test keeps this equal to
what the services declare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kombu import Queue

QUEUES: Mapping[str, Sequence[str]] = {
    "auth": ("limits", "mails", "subscriptions", "users", "voices"),
    "keyvault": ("organisations", "users", "validation"),
    "chat": ("keys", "replay", "users"),
    "voice": ("keys", "replay", "users"),
    "billing": ("organisations", "usage", "users"),
}
"""Of each tier; and every service has one for the jobs that it gives itself."""


def all_queues(broker_url: str) -> list[Queue]:
    """Each by its name and with its limits, bound to nothing."""
    from shared.messaging.broker import durable_queue
    from shared.tiers import TIERS

    names = [
        name
        for service, queues in QUEUES.items()
        for name in (
            *(f"{service}.{q}.{tier}" for q in queues for tier in TIERS),
            f"{service}.jobs",
        )
    ]
    return [durable_queue(name, [name], broker_url) for name in names]
