"""Stop a service by hand, let it go on, and see which are stopped."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from services.keyvault.domain.errors import NoSuchService, NotStopped
from services.keyvault.domain.policy import SERVICES
from services.keyvault.domain.ports import ServiceUses
from services.keyvault.domain.service_use import ServiceStop, Standing, UseLimits
from shared.clock import Clock
from shared.ids import uuid7
from shared.values import dataclass

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StopService:
    """Give a service no key from its next call on, in every process at once."""

    service_uses: ServiceUses
    clock: Clock

    async def __call__(self, service: str, *, by: str, reason: str) -> bool:
        """Answers False when it was stopped already."""
        _require(service)
        stopped = await self.service_uses.stop(ServiceStop(service, self.clock.now(), by, reason))
        if stopped:
            log.error("service_stopped", stopped_service=service, by=by, reason=reason)
        return stopped


@dataclass(frozen=True, slots=True)
class ResumeService:
    """Let a stopped service use keys again. Its users are counted anew."""

    service_uses: ServiceUses
    clock: Clock

    async def __call__(self, service: str, *, by: str) -> None:
        """Raises NotStopped."""
        _require(service)
        if not await self.service_uses.resume(service, at=self.clock.now(), by=by):
            raise NotStopped(service)
        log.warning("service_resumed", resumed_service=service, by=by)


@dataclass(frozen=True, slots=True)
class ShowServices:
    """How services stand at the moment, and when they were stopped."""

    service_uses: ServiceUses
    limits: UseLimits

    async def __call__(self, *, most: int) -> tuple[Sequence[Standing], Sequence[ServiceStop]]:
        # Whoever only looks is no process that gives keys away: all uses are elsewhere.
        standings = await self.service_uses.standings(uuid7(), window=self.limits.window)
        return standings, await self.service_uses.stops(most=most)


def _require(service: str) -> None:
    if service not in SERVICES:
        raise NoSuchService
