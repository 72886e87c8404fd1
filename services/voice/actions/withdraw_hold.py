"""Take back a hold of which nobody knows whether it was written."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from services.voice.actions.settle_speech import SettleSpeech
from services.voice.domain.speech import Hold, Outcome, Settlement

# When the storage has done what it was asked for: at once, after a moment, or after it waited for
# somebody else. Later, it never will.
_WRITTEN_AFTER_SECONDS = (0.0, 1.0, 5.0)
_NEVER_ASKED = Settlement(Outcome.REFUSED, None)


@dataclass(frozen=True, slots=True)
class WithdrawHold:
    """Whoever stops waiting for the storage does not know whether the hold is written. Left open,
    it would be charged, once its lease is over, for a speech that nobody was asked for."""

    settle: SettleSpeech
    # The event loop keeps only weak references to tasks; these must live until they end.
    seen_to: set[asyncio.Task[None]] = field(default_factory=set, init=False, compare=False)

    def __call__(self, hold: Hold) -> None:
        """Do it in the background."""
        task = asyncio.ensure_future(self._withdraw(hold))
        self.seen_to.add(task)
        task.add_done_callback(self.seen_to.discard)

    async def _withdraw(self, hold: Hold) -> None:
        for wait in _WRITTEN_AFTER_SECONDS:
            await asyncio.sleep(wait)
            if await self.settle(hold, _NEVER_ASKED):
                return
