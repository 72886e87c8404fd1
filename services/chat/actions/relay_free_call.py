"""Calls that use nothing, such as counting tokens: limited, but neither held nor billed."""

from __future__ import annotations

from services.chat.actions.compose_prompt import opaque
from services.chat.actions.open_turn import OpenTurn
from services.chat.actions.relay_call import Relaying
from services.chat.domain.ports import Admission
from services.chat.domain.raw_calls import RawCall, RawRefusal, RawVendors
from services.chat.domain.relaying import relayed_model
from shared.clock import Clock
from shared.ids import UserId
from shared.model_catalogue import ModelCatalogue
from shared.tiers import Tier
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class CountFreeCall:
    """One more of a user's calls that cost nothing."""

    open: OpenTurn
    admission: Admission
    clock: Clock

    async def __call__(self, user_id: UserId, tier: Tier) -> Tier:
        """The tier that the user has now. Raises LimitReached, SessionEnded or Unavailable."""

        async def count(current: Tier) -> Tier:
            await self.admission.count_free_call(user_id, current, now=self.clock.now())
            return current

        return await self.open.by_current_tier(user_id, tier, count)


@dataclass(frozen=True, slots=True)
class RelayFreeCall:
    """Pass such a call on, with the model governed as for any other."""

    count: CountFreeCall
    vendors: RawVendors
    catalogue: ModelCatalogue

    async def __call__(self, relaying: Relaying) -> bytes | RawRefusal:
        """The vendor's answer. Raises what CountFreeCall and the choice of a model raise, and
        VendorFailed."""
        by = relaying.by
        raw = await self.count.open.by_current_tier(
            by.user_id,
            await self.count(by.user_id, relaying.tier),
            lambda tier: self._governed(relaying, tier),
        )
        async with self.vendors.call(raw, by=by) as answer:
            return await answer.body() if answer.status == 200 else await answer.refusal()

    async def _governed(self, relaying: Relaying, tier: Tier) -> RawCall:
        choice = relayed_model(relaying.call, tier, self.catalogue)
        return relaying.call.governed(choice, end_user=opaque(relaying.by.user_id))
