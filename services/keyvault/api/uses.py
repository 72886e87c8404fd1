"""What Prometheus is told about the uses of keys, and the watch that goes on beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache

from prometheus_client import Counter, Gauge

from services.keyvault.actions import WatchUses
from services.keyvault.domain.service_use import Standing
from shared.background import repeated, running_beside
from shared.tiers import COMPATIBLE
from shared.vendors import vendors

_PROVIDERS = frozenset(vendors) | {COMPATIBLE}

USES = Counter(
    "companion_keyvault_key_uses",
    "Questions of services for a key, by what became of them.",
    ["peer", "provider", "outcome"],
)
USERS = Gauge(
    "companion_keyvault_users",
    "Users whose keys a service used within the window, in all processes together.",
    ["peer"],
)
STOPPED = Gauge(
    "companion_keyvault_service_stopped",
    "1 while a service is stopped from using keys: the number to alarm on.",
    ["peer"],
)
STOPS = Counter(
    "companion_keyvault_service_stops", "Stops of services that this process saw.", ["peer"]
)


def count_use(service: str, provider: str, outcome: str) -> None:
    """Count one question; `provider` is what was asked for, and may be anything."""
    _uses(service, provider if provider in _PROVIDERS else "none", outcome).inc()


# Looking a label up costs more than counting; few services, vendors and outcomes exist.
@cache
def _uses(service: str, provider: str, outcome: str) -> Counter:
    return USES.labels(service, provider, outcome)


@asynccontextmanager
async def watching_uses(watch: WatchUses, every_seconds: float) -> AsyncIterator[None]:
    """Watch the services while the process serves."""
    stopped: set[str] = set()

    async def look() -> None:
        nonlocal stopped
        stopped = show(await watch(), stopped)

    async with running_beside(repeated(look, pause_seconds=every_seconds)):
        yield


def show(standings: Sequence[Standing], stopped: set[str]) -> set[str]:
    """Set the gauges; answers which services are stopped now."""
    now = {standing.service for standing in standings if standing.stop}
    for standing in standings:
        USERS.labels(standing.service).set(standing.users)
        STOPPED.labels(standing.service).set(standing.service in now)
        STOPS.labels(standing.service).inc(standing.service in now - stopped)
    return now
