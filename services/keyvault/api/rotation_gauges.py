"""What Prometheus is told about a rotation of the keyring."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from prometheus_client import Gauge

from services.keyvault.actions import ShowRotation
from services.keyvault.actions.watch_rotation import RotationState
from shared.background import repeated, running_beside

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
    refresh = partial(_refresh, show_rotation)
    async with running_beside(repeated(refresh, pause_seconds=_EVERY_SECONDS)):
        yield


async def _refresh(show_rotation: ShowRotation) -> None:
    show(await show_rotation())


def show(state: RotationState) -> None:
    """Set the gauges; a version that wraps nothing more leaves them."""
    for gauge, by_version in ((DATA_KEYS, state.data_keys), (REWRAPPED, state.rewrapped)):
        gauge.clear()
        for version, count in by_version.items():
            gauge.labels(version).set(count)
