"""What Prometheus is told about the uses of keys, and the watch that goes on beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache

import structlog
from prometheus_client import Counter, Gauge

from services.keyvault.actions import WatchUses
from services.keyvault.domain.service_use import Standing
from shared.background import running_beside
from shared.errors import ExpectedFailure
from shared.tiers import COMPATIBLE
from shared.vendors import vendors

_PROVIDERS = frozenset(vendors) | {COMPATIBLE}

log = structlog.get_logger(__name__)

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
    async with running_beside(_watch(watch, every_seconds)):
        yield


async def _watch(watch: WatchUses, every_seconds: float) -> None:
    stopped: set[str] = set()
    while True:
        try:
            stopped = show(await watch(), stopped)
        except ExpectedFailure as failure:
            log.warning("uses_not_watched", reason=failure.code)
        except Exception:  # a bug here must not end the watch for good
            log.exception("uses_not_watched")
        await asyncio.sleep(every_seconds)


def show(standings: Sequence[Standing], stopped: set[str]) -> set[str]:
    """Set the gauges; answers which services are stopped now."""
    now = {standing.service for standing in standings if standing.stop}
    for standing in standings:
        USERS.labels(standing.service).set(standing.users)
        STOPPED.labels(standing.service).set(standing.service in now)
        STOPS.labels(standing.service).inc(standing.service in now - stopped)
    return now
