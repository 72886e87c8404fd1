"""Settle the speeches of replicas that died."""

from __future__ import annotations

from datetime import timedelta

import structlog

from services.voice.actions.settle_speech import SettleSpeech
from services.voice.domain.ports import Admission, Speeches
from services.voice.domain.speech import Hold, settlement_of_lost
from shared.clock import Clock
from shared.errors import Unavailable
from shared.values import dataclass

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SettleOrphans:
    """Close holds whose lease nobody renews; answers how many this call closed.

    The replica may have been cut off and not dead: then its own settlement comes first or second,
    and either way the ledger sees one entry.

    One look is not enough: it may come when the database is back after longer than a lease, just
    before the replicas that live renew theirs. `patience`: how long they are given for that, which
    is longer than a try that began too early, a pause and another try may take; and a little less
    than twice the time between two looks.
    """

    speeches: Speeches
    settle: SettleSpeech
    clock: Clock
    admission: Admission
    patience: timedelta = timedelta(seconds=18)

    async def __call__(self, most: int = 100) -> int:
        now = self.clock.now()
        orphans = await self.speeches.orphans(now, doubted_by=now - self.patience, most=most)
        closed = sum([await self._close(hold) for hold in orphans])
        await self.admission.tell_the_untold()
        return closed

    async def _close(self, hold: Hold) -> bool:
        try:
            return await self._settle(hold)
        except Unavailable:
            raise  # the next look offers it again
        except Exception:
            # One that can't be closed must not keep the others open.
            log.exception("orphan_not_settled", speech_id=str(hold.id))
            return False

    async def _settle(self, hold: Hold) -> bool:
        settlement = settlement_of_lost(hold)
        if not await self.settle.once(hold, settlement):
            return False
        if settlement.used is not None:
            # Nobody else will: a replica that lives after all settles what is there no more.
            await self.admission.place_of(hold).settle(settlement.used.characters)
        return True
