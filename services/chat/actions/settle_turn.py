"""Close a turn: its answer, its usage and its cost, together and once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from services.chat.domain.conversation import Message, Role
from services.chat.domain.ports import Pricer, Turns
from services.chat.domain.turn import Hold, Outcome, Settlement
from shared.clock import Clock
from shared.errors import Unavailable
from shared.events import Fact
from shared.events.usage import UsageRecorded

_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SettleTurn:
    """The one way to close a hold. The storage takes it once; a second settlement changes nothing.

    What was paid for must not be forgotten because our database is away for a moment: it tries
    again until the storage has taken it or the process ends (then the sweeper does it).
    """

    turns: Turns
    price: Pricer
    clock: Clock
    sandbox: bool

    async def __call__(self, hold: Hold, settlement: Settlement) -> Message:
        """Answers the message as it is now stored."""
        now = self.clock.now()
        if settlement.outcome is not Outcome.REFUSED:
            quote = self.price(hold.provider, settlement.model, settlement.usage, hold.created_at)
            if quote is not None:
                settlement = replace(
                    settlement,
                    cost_microusd=quote.cost_microusd,
                    price_version=quote.price_version,
                )
        fact = usage_fact(hold, settlement, sandbox=self.sandbox)
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                await self.turns.settle(hold, settlement, fact)
                break
            except Unavailable:
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
        return Message(
            id=hold.answer_id,
            session_id=hold.session_id,
            role=Role.ASSISTANT,
            content=settlement.text,
            status=settlement.outcome.answer_status,
            created_at=now,
            provider=hold.provider,
            model=settlement.model,
            usage=settlement.usage.to_record(),
            cost_microusd=settlement.cost_microusd,
            processing_time_ms=settlement.processing_time_ms,
        )


def usage_fact(hold: Hold, settlement: Settlement, *, sandbox: bool) -> Fact[UsageRecorded] | None:
    """What billing is told; None when the vendor declined before any work."""
    if settlement.outcome is Outcome.REFUSED:
        return None
    usage = settlement.usage
    event = UsageRecorded(
        user_id=hold.user_id,
        operation="chat",
        provider=hold.provider,
        model=settlement.model,
        source=usage.source,
        outcome=settlement.outcome.value,
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        output_reasoning_tokens=usage.output_reasoning_tokens,
        service_tier=usage.service_tier,
        request_id=hold.request_id,
        provider_request_id=settlement.provider_request_id,
        session_id=hold.session_id,
        sandbox=sandbox,
    )
    return Fact(
        event=event,
        subject=hold.user_id,
        tier=hold.tier,
        id=hold.usage_event_id,
        time=hold.created_at,
        source="chat",
        request_id=hold.request_id,
    )
