"""Watch how much services use keys, and stop one whose use is unusual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from services.keyvault.domain.audit import US
from services.keyvault.domain.ports import ServiceUses
from services.keyvault.domain.service_use import ServiceStop, Standing, UseLimits, UseMeter
from shared.clock import Clock
from shared.values import dataclass

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WatchUses:
    """Tell the other processes what this one gave away, learn what they did, and stop a service
    that used the keys of unusually many users. Each web process does it every second."""

    service_uses: ServiceUses
    meter: UseMeter
    limits: UseLimits
    clock: Clock

    async def __call__(self) -> Sequence[Standing]:
        at = self.clock.now()
        tally = self.meter.take(at)
        try:
            await self.service_uses.report(self.meter.process_id, tally, at)
        except BaseException:
            self.meter.put_back(tally)
            raise
        standings = await self.service_uses.standings(
            self.meter.process_id, window=self.limits.window
        )
        self.meter.learn(standings)
        return [await self._judged(standing) for standing in standings]

    async def _judged(self, standing: Standing) -> Standing:
        if not standing.is_unusual(self.limits):
            return standing
        minutes = int(self.limits.window.total_seconds() // 60)
        reason = (
            f"used keys of {standing.users} users within {minutes} minutes, "
            f"more than {self.limits.users_per_window}"
        )
        stop = ServiceStop(standing.service, self.clock.now(), US, reason)
        if await self.service_uses.stop(stop):
            log.error("service_stopped", stopped_service=stop.service, by=US, reason=reason)
        return replace(standing, stop=stop)

    async def drop_old(self) -> None:
        """Forget users who were seen before the window."""
        await self.service_uses.drop_old(window=self.limits.window)
