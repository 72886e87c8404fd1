"""Forget a user: end what they are waiting for, and delete what they said."""

from __future__ import annotations

from typing import ClassVar

from services.chat.domain.ports import Revocations, UnitOfWork
from shared.erasure import BATCH, Forget, Left
from shared.ids import UserId
from shared.revocation import Revocation
from shared.values import dataclass


@dataclass(frozen=True)
class ForgetUser(Forget[UnitOfWork]):
    """Delete the user's sessions, messages, turns and known keys.

    A running turn is ended, not deleted: what it has used is still to be told to billing. Its hold
    goes once that is done.
    """

    service: ClassVar[str] = "chat"

    revocations: Revocations

    async def erase(self, work: UnitOfWork, user_id: UserId) -> Left:
        """What is not running, in pieces."""
        if await work.traces.erase(user_id, most=BATCH) == BATCH:
            return Left.MORE
        running, now = await work.traces.running(user_id), self.clock.now()
        if not running:
            return Left.NOTHING
        await self.revocations.announce(
            [Revocation(user_id, provider, now) for provider in running]
        )
        return Left.UNSETTLED
