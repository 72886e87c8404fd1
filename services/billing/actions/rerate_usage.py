"""Let a new price hold for what was rated already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from datetime import timedelta

from services.billing.actions._pace import WITHIN, Rhythm
from services.billing.domain.correction import Corrected, Correction, Occasion
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.domain.rerating import Rerating, ReratingProgress
from shared.clock import Clock
from shared.events.usage import UsageAdjusted
from shared.ids import EventId, uuid7
from shared.values import dataclass

PAGE = 500
_ME = "billing"
# Batches that were rated by the price before, when the new one was set, are in the ledger by then.
_SETTLING = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class RerateUsage:
    """Correct entries whose rating is not that of a price which was set for them too.

    A page in a transaction of its own, with how far it has come: each entry once.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock
    page: int = PAGE
    rhythm: Rhythm = field(default_factory=Rhythm)

    async def __call__(self, *, within: timedelta = WITHIN) -> int:
        """Goes on for some time while there is something left; answers how many entries were
        corrected."""
        corrected, pace = 0, self.rhythm.begin(within)
        while True:
            found, changed = await self._page()
            corrected += changed
            if not found or not await pace.goes_on():
                return corrected

    async def waiting(self) -> Sequence[ReratingProgress]:
        """What is not applied to all yet, and to how many entries it is still to be."""
        async with self.unit_of_work() as work:
            return await work.effects.reratings()

    async def _page(self) -> tuple[bool, int]:
        """Whether there was something to do, and how many entries were corrected."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            rerating = await work.effects.next_rerating(asked_before=now - _SETTLING)
            if rerating is None:
                return False, 0
            ids = await work.effects.rated_entries(rerating, most=self.page)
            changed = await self._correct(work, rerating, ids)
            is_done = len(ids) < self.page
            await work.effects.went_on(
                rerating, after=ids[-1] if ids else None, corrected=changed, done=is_done
            )
        return True, changed

    async def _correct(self, work: UnitOfWork, rerating: Rerating, ids: Sequence[EventId]) -> int:
        made = [
            (corrected, correction)
            for corrected in await work.corrections.all_corrected(ids)
            if (correction := rerating.correction_of(corrected, self._occasion(rerating)))
        ]
        for corrected, correction in made:
            _tell(work, corrected, correction)
        return await work.corrections.add_all([correction for _, correction in made])

    def _occasion(self, rerating: Rerating) -> Occasion:
        return Occasion(EventId(uuid7()), rerating.reason, rerating.asked_by, _ME, self.clock.now())


def _tell(work: UnitOfWork, corrected: Corrected, correction: Correction) -> None:
    entry = corrected.entry
    event = UsageAdjusted(
        user_id=entry.user_id,
        event_id=entry.event_id,
        reason=correction.reason,
        cost_microusd=correction.deltas.cost_microusd,
    )
    work.publish(event, subject=entry.user_id, tier=entry.tier, id_=correction.id)
