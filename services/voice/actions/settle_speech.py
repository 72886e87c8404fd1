"""Close a speech: its outcome and its usage, together and once."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from services.voice.domain.ports import Speeches
from services.voice.domain.speech import Hold, Outcome, Settlement, usage_fact
from shared.background import until_told
from shared.values import dataclass

log = structlog.get_logger(__name__)


def _nobody(_hold: Hold, _settlement: Settlement) -> None:
    """There is nobody to be told."""


@dataclass(frozen=True, slots=True)
class SettleSpeech:
    """The one way to close a hold. The storage takes it once; a second settlement changes nothing.

    What was paid for must not be forgotten because our database is away for a moment: it tries
    again until the storage has taken it or the process ends (then the sweeper does it). `settled`
    hears of each that was taken.
    """

    speeches: Speeches
    settled: Callable[[Hold, Settlement], None] = _nobody

    async def __call__(self, hold: Hold, settlement: Settlement) -> bool:
        """Answers whether it was this settlement that closed the hold."""
        return await until_told(lambda: self.once(hold, settlement))

    async def once(self, hold: Hold, settlement: Settlement) -> bool:
        """One try; False when it was settled before. Raises Unavailable."""
        closed = await self.speeches.settle(hold.id, settlement, usage_fact(hold, settlement))
        if closed:
            self.settled(hold, settlement)
        # The usual end stands in the row, the ledger and the metrics, and its request has a line.
        if settlement.outcome is Outcome.DONE and closed:
            return True
        log.info(
            "speech_settled",
            speech_id=str(hold.id),
            outcome=settlement.outcome,
            characters=settlement.used.characters if settlement.used else 0,
            first=closed,
        )
        return closed
