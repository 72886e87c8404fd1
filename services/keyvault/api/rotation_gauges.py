"""What Prometheus is told about a rotation of the keyring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from prometheus_client import Gauge

from services.keyvault.actions import ShowRotation
from services.keyvault.actions.watch_rotation import RotationState
from shared.background import running_beside
from shared.errors import ExpectedFailure

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 10.0

DATA_KEYS = Gauge(
    "companion_keyvault_data_keys",
    "Data keys by the keyring version that wraps them; counted in the database.",
    ["version"],
)
REWRAPPED = Gauge(
    "companion_keyvault_data_keys_rewrapped",
    "Data keys that were ever rewrapped to a keyring version, by whatever process.",
    ["version"],
)


@asynccontextmanager
async def showing_rotation(show_rotation: ShowRotation) -> AsyncIterator[None]:
    """Keep the gauges fresh while the process serves."""
    async with running_beside(_refresh(show_rotation)):
        yield


async def _refresh(show_rotation: ShowRotation) -> None:
    while True:
        try:
            show(await show_rotation())
        except ExpectedFailure as failure:
            log.warning("gauges_not_refreshed", reason=failure.code)
        except Exception:  # a bug here must not leave the gauges standing still for good
            log.exception("gauges_not_refreshed")
        await asyncio.sleep(_EVERY_SECONDS)


def show(state: RotationState) -> None:
    """Set the gauges; a version that wraps nothing more leaves them."""
    for gauge, by_version in ((DATA_KEYS, state.data_keys), (REWRAPPED, state.rewrapped)):
        gauge.clear()
        for version, count in by_version.items():
            gauge.labels(version).set(count)
