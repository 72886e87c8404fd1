"""Sum up how all services are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from services.auth.domain.ports import Probe, ServiceState


@dataclass(frozen=True, slots=True)
class CheckHealth:
    """Ask every service at once; as slow as the slowest of them."""

    probes: Mapping[str, Probe]

    async def __call__(self) -> Mapping[str, ServiceState]:
        states = await asyncio.gather(*(probe() for probe in self.probes.values()))
        return dict(zip(self.probes, states, strict=True))
