"""What a user may still use."""

from __future__ import annotations

from collections.abc import Sequence

from services.chat.actions.read_tier import ReadTier
from services.chat.domain.ports import Admission, Turns
from shared.clock import Clock
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.tiers import Tier
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Every window of a user, by the tier they have now, and what the month's turns have cost."""

    tier: str
    windows: Sequence[LimitState]
    spent_microusd: int
    cap_microusd: int | None


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Look at all windows without using any."""

    turns: Turns
    admission: Admission
    clock: Clock

    async def __call__(self, user_id: UserId, tier: Tier) -> Limits:
        """Raises SessionEnded or Unavailable."""
        now = self.clock.now()
        tier = await ReadTier(self.admission)(user_id, tier)
        cap = await self.turns.cap_of(user_id)
        windows = await self.admission.states(user_id, tier, now=now, cap_microusd=cap)
        month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        spent = await self.turns.spent_since(user_id, month)
        return Limits(tier.name, windows, spent, cap)
