"""Take back a hold of which nobody knows whether it was written."""

from __future__ import annotations

from services.voice.actions.settle_speech import SettleSpeech
from services.voice.domain.speech import Hold, Outcome, Settlement
from shared.withdrawals import Withdrawals

_NEVER_ASKED = Settlement(Outcome.REFUSED, None)


class WithdrawHold(Withdrawals[Hold]):
    """Left open, it would be charged, once its lease is over, for a speech that nobody was asked
    for."""

    def __init__(self, settle: SettleSpeech) -> None:
        super().__init__()
        self._settle = settle

    async def take_back(self, hold: Hold) -> bool:
        return await self._settle.once(hold, _NEVER_ASKED)
