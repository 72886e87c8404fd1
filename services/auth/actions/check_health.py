"""Sum up how all services are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from services.auth.domain.ports import Probe, ServiceState
from shared.clock import Clock

_KEPT = timedelta(seconds=1)


class CheckHealth:
    """Ask every service at once; as slow as the slowest of them.

    Anybody may ask us, so one look at a time is shared by all who wait for it, and for a second by
    those who come later: however many ask, the services are asked once a second.
    """

    def __init__(self, probes: Mapping[str, Probe], clock: Clock) -> None:
        self._probes = probes
        self._clock = clock
        self._looking = asyncio.Lock()
        self._seen: tuple[datetime, Mapping[str, ServiceState]] | None = None

    async def __call__(self) -> Mapping[str, ServiceState]:
        async with self._looking:
            if self._seen is None or abs(self._clock.now() - self._seen[0]) >= _KEPT:
                states = await asyncio.gather(*(probe() for probe in self._probes.values()))
                found = dict(zip(self._probes, states, strict=True))
                self._seen = (self._clock.now(), found)
            return self._seen[1]
