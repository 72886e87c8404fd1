"""Settle the speeches of replicas that died."""

from __future__ import annotations

from dataclasses import dataclass

from services.voice.actions.settle_speech import SettleSpeech
from services.voice.domain.ports import Speeches
from services.voice.domain.speech import settlement_of_lost
from shared.clock import Clock


@dataclass(frozen=True, slots=True)
class SettleOrphans:
    """Close holds whose lease nobody renews; answers how many this call closed.

    The replica may have been cut off and not dead: then its own settlement comes first or second,
    and either way the ledger sees one entry.
    """

    speeches: Speeches
    settle: SettleSpeech
    clock: Clock

    async def __call__(self, most: int = 100) -> int:
        orphans = await self.speeches.orphans(self.clock.now(), most=most)
        closed = [await self.settle(hold, settlement_of_lost(hold)) for hold in orphans]
        return sum(closed)
