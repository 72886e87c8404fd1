"""Settle the turns of replicas that died."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import structlog

from services.chat.actions.settle_turn import SettleTurn
from services.chat.domain.ports import Turns
from services.chat.domain.turn import Orphan, Outcome, Settlement, TurnId
from services.chat.domain.usage import estimated_usage
from shared.clock import Clock
from shared.errors import Unavailable

log = structlog.get_logger(__name__)


class WrittenText(Protocol):
    """What was written down of answers while they were said."""

    async def text_of(self, turn_id: TurnId) -> str:
        """The text so far; nothing when there is none any more, or it can't be read."""
        ...


@dataclass(frozen=True, slots=True)
class SettleOrphans:
    """Close holds whose lease nobody renews, with an estimate of what was used and what is left of
    their text; answers how many.

    The replica may have been cut off and not dead: then its own settlement comes first or second,
    and either way the ledger sees one entry.

    Limits need no hand here: the place among the streams is leased for seconds, and ends by itself.
    The tokens and the money that were reserved stay counted, in the windows in which they were,
    since nobody knows better what was used.
    """

    turns: Turns
    settle: SettleTurn
    clock: Clock
    written: WrittenText | None = None

    async def __call__(self, most: int = 100) -> int:
        orphans = await self.turns.orphans(self.clock.now(), most=most)
        for orphan in orphans:
            try:
                await self._close(orphan)
            except Unavailable:
                raise  # the next look offers it again
            except Exception:
                # One that can't be closed must not keep the others open.
                log.exception("orphan_not_settled", turn_id=str(orphan.hold.id))
        return len(orphans)

    async def _close(self, orphan: Orphan) -> None:
        settlement = self.settle.priced(orphan.hold, await self._settlement(orphan))
        await self.settle.once(orphan.hold, settlement, sandbox=orphan.sandbox)

    async def _settlement(self, orphan: Orphan) -> Settlement:
        hold = orphan.hold
        text = await self.written.text_of(hold.id) if self.written is not None else ""
        return Settlement(
            outcome=Outcome.REPLICA_LOST,
            text=text,
            usage=estimated_usage(hold.input_estimate, max(orphan.output_characters, len(text))),
            provider=hold.provider,
            model=hold.model,
            provider_request_id=orphan.provider_request_id,
            processing_time_ms=0,
            finish_reason=Outcome.REPLICA_LOST.value,
        )
