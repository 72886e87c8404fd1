"""Tell whether the chain keeps up with the audit trail."""

from __future__ import annotations

from services.auth.domain.audit_chain import ChainState
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class WatchAudit:
    """How long the chain is, and what waits to be taken up: until then it is unprotected."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> ChainState:
        async with self.unit_of_work() as work:
            return await work.audit_chain.state(self.clock.now())
