"""Are the kept sums still the sums of what is there?"""

from __future__ import annotations

from dataclasses import replace

from services.billing.domain.errors import DriftNotFound
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.rollup import Drift, RollupCheck
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass

# UTC; what was used before midnight has come and is linked by then.
_NIGHT = 2


@dataclass(frozen=True, slots=True)
class CheckRollups:
    """Work out every closed hour and day again and note which kept sums differ; repair nothing."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def nightly(self) -> RollupCheck | None:
        """Once a night, however often it is called; None when it is not time. A check of a later
        day was noted by a clock that was ahead: none is left out for it."""
        now = self.clock.now()
        if now.hour < _NIGHT:
            return None
        async with self.unit_of_work() as work:
            last = await work.rollups.last_check()
        if last is not None and last.checked_at.date() == now.date():
            return None
        return await self()

    async def __call__(self) -> RollupCheck:
        now = self.clock.now()
        hour = now.replace(minute=0, second=0, microsecond=0)
        async with self.unit_of_work() as work:
            return await work.rollups.check(up_to=hour, at=now)


@dataclass(frozen=True, slots=True)
class RepairDrift:
    """Put one drift right, on a named person's word. Raises DriftNotFound."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, drift_id: int, *, reason: str, by: UserId) -> Drift:
        async with self.unit_of_work() as work:
            drift = await work.rollups.hold_drift(drift_id)
            if drift is None:
                raise DriftNotFound(drift_id)
            now = self.clock.now()
            await work.rollups.repair(drift, by=by, reason=reason, at=now)
        return replace(drift, repaired_at=now)
