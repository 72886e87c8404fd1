"""Forget a user: end what they are listening to, and delete what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from services.voice.domain.ports import Revocations, UnitOfWork
from services.voice.domain.script import VENDOR
from shared.erasure import BATCH, Forget, Left
from shared.ids import UserId
from shared.revocation import Revocation


@dataclass(frozen=True)
class ForgetUser(Forget[UnitOfWork]):
    """Delete the user's speeches.

    A running one is ended, not deleted: what it has used is still to be told to billing. Its hold
    goes once that is done.
    """

    service: ClassVar[str] = "voice"

    revocations: Revocations

    async def erase(self, work: UnitOfWork, user_id: UserId) -> Left:
        """What is not running, in pieces."""
        if await work.traces.erase(user_id, most=BATCH) == BATCH:
            return Left.MORE
        if not await work.traces.is_running(user_id):
            return Left.NOTHING
        await self.revocations.announce([Revocation(user_id, VENDOR, self.clock.now())])
        return Left.UNSETTLED
