"""Let a new price hold for what was rated already."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.billing.domain.correction import Occasion
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.domain.rerating import Rerating
from shared.clock import Clock
from shared.events.usage import UsageAdjusted
from shared.ids import EventId, uuid7

PAGE = 500
MOST_PAGES = 20
_ME = "billing"
# Batches that were rated by the price before, when the new one was set, are in the ledger by then.
_SETTLING = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class RerateUsage:
    """Correct entries whose rating is not that of a price which was set for them too.

    Bounded, a page in a transaction of its own, with how far it has come: each entry once.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> int:
        """Answers how many entries were corrected."""
        corrected = 0
        for _ in range(MOST_PAGES):
            found, changed = await self._page()
            corrected += changed
            if not found:
                break
        return corrected

    async def _page(self) -> tuple[int, int]:
        """How many entries were looked at, and how many of them corrected."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            rerating = await work.effects.next_rerating(asked_before=now - _SETTLING)
            if rerating is None:
                return 0, 0
            ids = await work.effects.rated_entries(rerating, most=PAGE)
            changed = 0
            for event_id in ids:
                changed += await self._correct(work, rerating, event_id)
            await work.effects.went_on(
                rerating, after=ids[-1] if ids else None, corrected=changed, done=len(ids) < PAGE
            )
        return max(1, len(ids)), changed

    async def _correct(self, work: UnitOfWork, rerating: Rerating, event_id: EventId) -> bool:
        corrected = await work.corrections.corrected(event_id)
        if corrected is None:
            return False
        occasion = Occasion(
            EventId(uuid7()), rerating.reason, rerating.asked_by, _ME, self.clock.now()
        )
        correction = rerating.correction_of(corrected, occasion)
        if correction is None:
            return False
        await work.corrections.add(correction)
        event = UsageAdjusted(
            user_id=corrected.entry.user_id,
            event_id=event_id,
            reason=rerating.reason,
            cost_microusd=correction.deltas.cost_microusd,
        )
        work.publish(
            event,
            subject=corrected.entry.user_id,
            tier=corrected.entry.tier,
            id_=correction.id,
        )
        return True
