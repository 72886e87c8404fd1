"""A key was revoked: end what still runs on it."""

from __future__ import annotations

from services.chat.domain.running_turn import RunningTurns
from services.chat.domain.turn import Outcome
from shared.revocation import Revocation
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class DropKey:
    """End this replica's turns that run on a revoked key; answers how many."""

    running: RunningTurns

    async def __call__(self, revocation: Revocation) -> int:
        return self.running.end_on_key(revocation, Outcome.STOPPED)
