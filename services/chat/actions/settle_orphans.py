"""Settle the turns of replicas that died."""

from __future__ import annotations

from dataclasses import dataclass

from services.chat.actions.settle_turn import SettleTurn
from services.chat.domain.ports import Turns
from services.chat.domain.turn import Orphan, Outcome, Settlement
from services.chat.domain.usage import estimated_usage
from shared.clock import Clock


@dataclass(frozen=True, slots=True)
class SettleOrphans:
    """Close holds whose lease nobody renews, with an estimate of what was used; answers how many.

    The replica may have been cut off and not dead: then its own settlement comes first or second,
    and either way the ledger sees one entry.
    """

    turns: Turns
    settle: SettleTurn
    clock: Clock

    async def __call__(self, most: int = 100) -> int:
        orphans = await self.turns.orphans(self.clock.now(), most=most)
        for orphan in orphans:
            await self.settle(orphan.hold, _settlement(orphan))
        return len(orphans)


def _settlement(orphan: Orphan) -> Settlement:
    return Settlement(
        outcome=Outcome.REPLICA_LOST,
        text="",
        usage=estimated_usage(orphan.hold.input_estimate, orphan.output_characters),
        model=orphan.hold.model,
        provider_request_id=orphan.provider_request_id,
        processing_time_ms=0,
    )
