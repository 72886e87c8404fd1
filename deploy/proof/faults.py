"""What is broken, one at a time, and what users may notice of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from deploy.proof.containers import Containers, disconnected, reconnected
from deploy.proof.rounds import Bounds
from shared.values import dataclass

How = Literal["kill", "pause", "disconnect", "restart"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A container that dies (and is started again after `seconds`, as an orchestrator would),
    stands still, loses its networks, or is stopped and started as an operator does it."""

    service: str
    how: How
    bounds: Bounds
    seconds: float = 5.0

    @property
    def name(self) -> str:
        return f"{self.how} {self.service}"


# In flight at a replica that dies are at most so many turns; each may be told once.
_CUT = Bounds(may_cut=True, recovery_seconds=20)
UNNOTICED = Bounds(errors=0, recovery_seconds=0)
_AWAY = Bounds(recovery_seconds=30)

ALL: Sequence[Fault] = (
    Fault("chat-pro", "kill", _CUT),
    Fault("chat-pro", "pause", _CUT),
    Fault("chat-pro", "disconnect", _CUT),
    Fault("billing-worker-pro", "kill", UNNOTICED),
    Fault("billing-worker-pro", "pause", UNNOTICED),
    Fault("chat-relay", "kill", UNNOTICED),
    Fault("rabbitmq", "kill", UNNOTICED),
    Fault("rabbitmq", "disconnect", UNNOTICED),
    Fault("valkey", "kill", _AWAY),
    Fault("valkey", "pause", _AWAY),
    Fault("keyvault", "kill", _AWAY),
    Fault("egress", "kill", Bounds(may_cut=True, recovery_seconds=30)),
    Fault("egress", "disconnect", Bounds(may_cut=True, recovery_seconds=30)),
    Fault("postgres", "kill", _AWAY),
    Fault("postgres", "pause", _AWAY),
    Fault("postgres", "restart", _AWAY),
)

OF_THREE_BROKERS: Sequence[Fault] = (
    Fault("rabbitmq-2", "kill", UNNOTICED),
    Fault("rabbitmq-3", "disconnect", UNNOTICED),
)
"""Beside all others where RabbitMQ has three nodes: two go on by themselves."""

SHORT: Sequence[Fault] = (
    Fault("chat-pro", "kill", _CUT),
    Fault("billing-worker-pro", "kill", UNNOTICED),
    Fault("rabbitmq", "restart", UNNOTICED),
)


async def strike(containers: Containers, fault: Fault) -> tuple[float, float]:
    """Break it and mend it; when the fault was made, and when it was taken away."""
    container = containers.one(fault.service)
    struck = time.time()
    mend = await asyncio.to_thread(_BREAK[fault.how], containers.client, container)
    await asyncio.sleep(max(0.0, fault.seconds - (time.time() - struck)))
    await asyncio.to_thread(mend)
    return struck, time.time()


Mend = Callable[[], None]


def _kill(_client: Any, container: Any) -> Mend:
    container.kill()

    def start() -> None:
        container.start()

    return start


def _pause(_client: Any, container: Any) -> Mend:
    container.pause()

    def unpause() -> None:
        container.unpause()

    return unpause


def _disconnect(client: Any, container: Any) -> Mend:
    places = disconnected(client, container)

    def reconnect() -> None:
        reconnected(client, container, places)

    return reconnect


def _restart(_client: Any, container: Any) -> Mend:
    container.restart()
    return lambda: None


_BREAK: dict[str, Callable[[Any, Any], Mend]] = {
    "kill": _kill,
    "pause": _pause,
    "disconnect": _disconnect,
    "restart": _restart,
}
