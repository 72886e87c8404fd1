"""Close a turn: its answer, its usage and its cost, together and once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from services.chat.domain.content import Role
from services.chat.domain.conversation import Message, SessionId
from services.chat.domain.ports import Pricer, Turns
from services.chat.domain.turn import Abandoned, Hold, Outcome, Settlement
from services.chat.domain.usage import Usage
from shared.clock import Clock
from shared.errors import Unavailable
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import EventId

_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 5.0


def _nobody(_hold: Hold, _settlement: Settlement) -> None:
    """There is nobody to be told."""


@dataclass(frozen=True, slots=True)
class SettleTurn:
    """The one way to close a hold. The storage takes it once; a second settlement changes nothing.

    What was paid for must not be forgotten because our database is away for a moment: it tries
    again until the storage has taken it or the process ends (then the sweeper does it). `settled`
    hears of each that was taken.
    """

    turns: Turns
    price: Pricer
    clock: Clock
    sandbox: bool
    settled: Callable[[Hold, Settlement], None] = _nobody

    async def __call__(self, hold: Hold, settlement: Settlement) -> Message:
        """Answers the message as it is now stored; `settlement` is `priced`."""
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                await self.once(hold, settlement)
                return self.message(hold, settlement)
            except Unavailable:
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)

    async def once(
        self, hold: Hold, settlement: Settlement, *, sandbox: bool | None = None
    ) -> bool:
        """One try; False when it was settled before. Raises Unavailable."""
        sandbox = self.sandbox if sandbox is None else sandbox
        facts = usage_facts(hold, settlement, sandbox=sandbox)
        was_open = await self.turns.settle(hold, settlement, facts)
        if was_open:
            self.settled(hold, settlement)
        return was_open

    def priced(self, hold: Hold, settlement: Settlement) -> Settlement:
        """With its costs, where they are known."""
        if settlement.abandoned:
            abandoned = [self._priced_attempt(hold, lost) for lost in settlement.abandoned]
            settlement = replace(settlement, abandoned=abandoned)
        if settlement.outcome is Outcome.REFUSED:
            return settlement
        quote = self.price(settlement.provider, settlement.model, settlement.usage, hold.created_at)
        if quote is None:
            return settlement
        return replace(
            settlement, cost_microusd=quote.cost_microusd, price_version=quote.price_version
        )

    def message(self, hold: Hold, settlement: Settlement) -> Message:
        """The answer as a settlement leaves it."""
        return _message(hold, settlement, self.clock.now())

    def _priced_attempt(self, hold: Hold, lost: Abandoned) -> Abandoned:
        quote = self.price(lost.provider, lost.model, lost.usage, hold.created_at)
        return replace(lost, cost_microusd=quote.cost_microusd if quote else None)


def _message(hold: Hold, settlement: Settlement, now: datetime) -> Message:
    return Message(
        id=hold.answer_id,
        session_id=hold.session_id or SessionId(UUID(int=0)),
        role=Role.ASSISTANT,
        content=settlement.text,
        status=settlement.outcome.answer_status,
        created_at=now,
        provider=settlement.provider,
        model=settlement.model,
        usage=settlement.usage.to_record(),
        cost_microusd=settlement.cost_microusd,
        processing_time_ms=settlement.processing_time_ms,
        finish_reason=settlement.finish_reason,
        parent_id=hold.question_id,
        tool_calls=settlement.tool_calls,
        thoughts=settlement.thoughts,
    )


def usage_facts(
    hold: Hold, settlement: Settlement, *, sandbox: bool
) -> Sequence[Fact[UsageRecorded]]:
    """What billing is told: each call to a vendor that may charge; none when the vendor declined
    before any work."""
    facts = [
        _fact(
            hold,
            lost.usage_event_id,
            lost.provider,
            lost.model,
            lost.usage,
            Outcome.PROVIDER_FAILED,
            None,
            sandbox=sandbox,
        )
        for lost in settlement.abandoned
    ]
    if settlement.outcome is not Outcome.REFUSED:
        facts.append(
            _fact(
                hold,
                hold.usage_event_id,
                settlement.provider,
                settlement.model,
                settlement.usage,
                settlement.outcome,
                settlement.provider_request_id,
                sandbox=sandbox,
            )
        )
    return facts


def _fact(
    hold: Hold,
    event_id: EventId,
    provider: str,
    model: str,
    usage: Usage,
    outcome: Outcome,
    provider_request_id: str | None,
    *,
    sandbox: bool,
) -> Fact[UsageRecorded]:
    event = UsageRecorded(
        user_id=hold.user_id,
        operation="chat",
        provider=provider,
        model=model,
        source=usage.source,
        outcome=outcome.value,
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        output_reasoning_tokens=usage.output_reasoning_tokens,
        service_tier=usage.service_tier,
        request_id=hold.request_id,
        provider_request_id=provider_request_id,
        session_id=hold.session_id,
        sandbox=sandbox,
    )
    return Fact(
        event=event,
        subject=hold.user_id,
        tier=hold.tier,
        id=event_id,
        time=hold.created_at,
        source="chat",
        request_id=hold.request_id,
    )
