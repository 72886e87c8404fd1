"""Limit how often an owner's keys are stored and checked."""

from __future__ import annotations

from datetime import timedelta

from services.keyvault.domain.audit import Kind
from services.keyvault.domain.errors import KeyChecksReached
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.ports import UnitOfWork
from shared.clock import Clock
from shared.values import dataclass

_MINUTE = timedelta(minutes=1)
_AT_LEAST = timedelta(seconds=1)
# A key that is stored is checked as well, which must not count twice: each counts by itself.
_COUNTED = (Kind.STORED, Kind.VALIDATED)


@dataclass(frozen=True, slots=True)
class LimitChecks:
    """Each key that is stored, and each question about one, costs a call to its vendor and lines of
    the trail; and who may ask without end has us try out keys that aren't theirs.

    Counted in the trail, so that all processes count alike. 0 lifts the limit.
    """

    clock: Clock
    most_per_minute: int

    async def __call__(self, work: UnitOfWork, owner: Owner) -> None:
        """Raises KeyChecksReached."""
        if self.most_per_minute <= 0:
            return
        now = self.clock.now()
        counted = await work.audit.nth_latest(
            owner, _COUNTED, self.most_per_minute, since=now - _MINUTE
        )
        if counted is not None:
            raise KeyChecksReached(max(counted + _MINUTE - now, _AT_LEAST))
