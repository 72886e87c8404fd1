"""Take back a hold of which nobody knows whether it was written."""

from __future__ import annotations

from services.chat.domain.ports import Turns
from services.chat.domain.turn import Hold, Outcome, Settlement
from services.chat.domain.usage import Usage
from shared.withdrawals import MOST, Withdrawals


class WithdrawHold(Withdrawals[Hold]):
    """Left open, it would keep its session busy for its lease, and then be charged for a call that
    nobody made."""

    def __init__(self, turns: Turns, *, most: int = MOST) -> None:
        super().__init__(most=most)
        self._turns = turns

    async def take_back(self, hold: Hold) -> bool:
        return await self._turns.settle(hold, _never_asked(hold), ())


def _never_asked(hold: Hold) -> Settlement:
    return Settlement(
        outcome=Outcome.REFUSED,
        text="",
        usage=Usage(source="counted"),
        provider=hold.provider,
        model=hold.model,
        provider_request_id=None,
        processing_time_ms=0,
        finish_reason=Outcome.REFUSED.value,
    )
