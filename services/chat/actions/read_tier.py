"""Which tier a user has now."""

from __future__ import annotations

from services.chat.domain.ports import Admission
from shared.ids import UserId
from shared.tiers import Tier, TierChanged
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ReadTier:
    """For what takes no place in the limits, which would tell: a token goes on claiming the tier
    that its user had when it was made."""

    admission: Admission

    async def __call__(self, user_id: UserId, claimed: Tier) -> Tier:
        """Raises SessionEnded when the account is gone."""
        told = await self.admission.tier_told_of(user_id)
        return claimed if told is None else TierChanged(told).tier
