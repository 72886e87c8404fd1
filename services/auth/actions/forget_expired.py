"""Delete what nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock

_BATCH = 5_000
# So that an owner who asks what happened on their account last month can still be told.
_SIGN_INS_KEPT = timedelta(days=30)


class _Forgetful(Protocol):
    async def forget_before(self, at: datetime, *, most: int) -> int: ...


@dataclass(frozen=True, slots=True)
class ForgetExpired:
    """Delete sign-ins that are long over and old counts of failures, in pieces."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> None:
        now = self.clock.now()
        await self._forget(lambda work: work.sign_ins, now - _SIGN_INS_KEPT)
        await self._forget(lambda work: work.login_failures, now)

    async def _forget(self, kept: Callable[[UnitOfWork], _Forgetful], before: datetime) -> None:
        forgotten = _BATCH
        while forgotten == _BATCH:
            async with self.unit_of_work() as work:
                forgotten = await kept(work).forget_before(before, most=_BATCH)
