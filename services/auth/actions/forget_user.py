"""Forget what is left of a deleted user in auth itself."""

from __future__ import annotations

from services.auth.actions.note_forgotten import Forgotten, NoteForgotten
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.erasure import BATCH, ErasureId
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ForgetUser:
    """Delete from where they did what they did, in pieces: the account itself went at once, but
    this can be much. The audit trail stays; it names an id that leads to nobody."""

    unit_of_work: NewUnitOfWork
    note_forgotten: NoteForgotten
    clock: Clock

    async def __call__(self, user_id: UserId, erasure_id: ErasureId) -> None:
        erased = BATCH
        while erased == BATCH:
            async with self.unit_of_work() as work:
                erased = await work.audit.erase_origins_of(user_id, most=BATCH)
        await self.note_forgotten([Forgotten(erasure_id, "auth", self.clock.now())])
