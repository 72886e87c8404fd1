"""A key was revoked: end what still runs on it."""

from __future__ import annotations

from dataclasses import dataclass

from services.chat.actions.running_turn import RunningTurns
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class DropKey:
    """End this replica's turns that run on a revoked key; answers how many."""

    running: RunningTurns

    async def __call__(self, user_id: UserId, provider: str) -> int:
        return self.running.end_with_key(user_id, provider)
