"""What a user may still have spoken this month."""

from __future__ import annotations

from collections.abc import Sequence

from services.voice.actions.read_tier import ReadTier
from services.voice.domain.ports import Admission
from shared.clock import Clock
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.tiers import Tier
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """The tier that a user has now, and every window of theirs."""

    tier: Tier
    windows: Sequence[LimitState]


@dataclass(frozen=True, slots=True)
class ReadStanding:
    """Look at all windows without using any."""

    admission: Admission
    clock: Clock

    async def __call__(self, user_id: UserId, tier: Tier) -> Standing:
        """Raises SessionEnded or Unavailable."""
        tier = await ReadTier(self.admission)(user_id, tier)
        windows = await self.admission.states(user_id, tier, now=self.clock.now())
        return Standing(tier, windows)
