"""Settle the turns of replicas that died."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

import structlog

from services.chat.actions.run_turn import give_back
from services.chat.actions.settle_turn import SettleTurn
from services.chat.domain.ports import Admission, Turns
from services.chat.domain.turn import Hold, Orphan, Outcome, Settlement, TurnId
from services.chat.domain.usage import estimated_usage, letters_of
from shared.clock import Clock
from shared.errors import Unavailable
from shared.tiers import TIERS
from shared.values import dataclass

log = structlog.get_logger(__name__)


class WrittenText(Protocol):
    """What was written down of answers while they were said."""

    async def text_of(self, turn_id: TurnId) -> str:
        """The text so far; nothing when there is none any more, or it can't be read."""
        ...


@dataclass(frozen=True, slots=True)
class SettleOrphans:
    """Close holds whose lease nobody renews, with an estimate of what was used and what is left of
    their text; answers how many this call closed.

    The replica may have been cut off and not dead: then its own settlement comes first or second,
    and either way the ledger sees one entry.

    One look is not enough: it may come when the database is back after longer than a lease, just
    before the replicas that live renew theirs. `patience`: how long they are given for that, which
    is longer than a try that began too early, a pause and another try may take; and a little less
    than twice the time between two looks.
    """

    turns: Turns
    settle: SettleTurn
    clock: Clock
    admission: Admission
    written: WrittenText | None = None
    patience: timedelta = timedelta(seconds=18)

    async def __call__(self, most: int = 100) -> int:
        now = self.clock.now()
        orphans = await self.turns.orphans(now, doubted_by=now - self.patience, most=most)
        closed = sum([await self._close(orphan) for orphan in orphans])
        await self.admission.tell_the_untold()
        return closed

    async def _close(self, orphan: Orphan) -> bool:
        try:
            return await self._settle(orphan)
        except Unavailable:
            raise  # the next look offers it again
        except Exception:
            # One that can't be closed must not keep the others open.
            log.exception("orphan_not_settled", turn_id=str(orphan.hold.id))
            return False

    async def _settle(self, orphan: Orphan) -> bool:
        hold = orphan.hold
        settlement = self.settle.priced(hold, await self._settlement(orphan))
        if not await self.settle.once(hold, settlement, sandbox=orphan.sandbox):
            return False
        # Nobody else will: a replica that lives after all gives back what is there no more.
        for place in self.admission.places_of(hold):
            await give_back(place, settlement)
        return True

    async def _settlement(self, orphan: Orphan) -> Settlement:
        hold = orphan.hold
        text = await self.written.text_of(hold.id) if self.written is not None else ""
        return Settlement(
            outcome=Outcome.REPLICA_LOST,
            text=text,
            usage=estimated_usage(
                hold.input_estimate,
                max(orphan.output_letters, letters_of(text)),
                max_output_tokens=_most_allowed(hold),
            ),
            provider=hold.provider,
            model=hold.model,
            provider_request_id=orphan.provider_request_id,
            processing_time_ms=0,
            finish_reason=Outcome.REPLICA_LOST.value,
            # What was said without a session is written down nowhere.
            shows_more=orphan.output_letters > 0,
        )


def _most_allowed(hold: Hold) -> int | None:
    """The longest answer that its tier allows; what the call itself asked for is not kept."""
    tier = TIERS.get(hold.tier)
    allowance = tier.allowance(hold.provider) if tier is not None else None
    return allowance.max_output_tokens if allowance is not None else None
