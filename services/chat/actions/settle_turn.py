"""Close a turn: its answer, its usage and its cost, together and once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from services.chat.domain.content import Role
from services.chat.domain.conversation import Message, SessionId
from services.chat.domain.ports import Pricer, Quote, Turns
from services.chat.domain.turn import Abandoned, Hold, Outcome, Settlement
from services.chat.domain.usage import Usage
from shared.background import until_told
from shared.clock import Clock
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import EventId, uuid7_of
from shared.values import dataclass, replace


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
        if not await until_told(lambda: self.once(hold, settlement)):
            # Somebody took this replica for dead, or it is ours and the word of it was lost.
            stored = await until_told(lambda: self.turns.answer_of(hold))
            if stored is not None:
                return stored
        return self.message(hold, settlement)

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
        quote = self._quote(settlement.provider, settlement.model, settlement.usage, hold)
        if quote is None:
            return settlement
        return replace(
            settlement, cost_microusd=quote.cost_microusd, price_version=quote.price_version
        )

    def message(self, hold: Hold, settlement: Settlement) -> Message:
        """The answer as a settlement leaves it."""
        return _message(hold, settlement, settlement.at or self.clock.now())

    def _priced_attempt(self, hold: Hold, lost: Abandoned) -> Abandoned:
        quote = self._quote(lost.provider, lost.model, lost.usage, hold)
        return replace(lost, cost_microusd=quote.cost_microusd if quote else None)

    def _quote(self, provider: str, model: str, usage: Usage, hold: Hold) -> Quote | None:
        """Of all its calls; unknown if that of one is."""
        quotes = [self.price(provider, model, call, hold.created_at) for call in usage.calls]
        known = [quote for quote in quotes if quote is not None]
        if len(known) < len(quotes):
            return None
        return replace(known[0], cost_microusd=sum(quote.cost_microusd for quote in known))


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
        safety_ratings=settlement.safety_ratings,
    )


def usage_facts(
    hold: Hold, settlement: Settlement, *, sandbox: bool
) -> Sequence[Fact[UsageRecorded]]:
    """What billing is told: each call to a vendor that may charge; none when the vendor declined
    before any work."""
    facts: list[Fact[UsageRecorded]] = []
    for lost in settlement.abandoned:
        facts += _facts(hold, lost.usage_event_id, lost, Outcome.PROVIDER_FAILED, sandbox=sandbox)
    if settlement.outcome is not Outcome.REFUSED:
        facts += _facts(
            hold,
            hold.usage_event_id,
            settlement,
            settlement.outcome,
            settlement.provider_request_id,
            sandbox=sandbox,
        )
    return facts


def _facts(
    hold: Hold,
    event_id: EventId,
    paid: Settlement | Abandoned,
    outcome: Outcome,
    provider_request_id: str | None = None,
    *,
    sandbox: bool,
) -> Sequence[Fact[UsageRecorded]]:
    """One for each call of it. Their ids follow from the first's: told again they are the same."""
    return [
        _fact(
            hold,
            _id_of_aside(event_id, number) if number else event_id,
            paid,
            call,
            outcome,
            provider_request_id,
            sandbox=sandbox,
        )
        for number, call in enumerate(paid.usage.calls)
    ]


def _id_of_aside(first: EventId, number: int) -> EventId:
    """Of the same moment as the first's: the ledger has its entries by the time in their ids."""
    return EventId(uuid7_of(first.int >> 80, f"{first}/aside/{number}".encode()))


def _fact(
    hold: Hold,
    event_id: EventId,
    paid: Settlement | Abandoned,
    usage: Usage,
    outcome: Outcome,
    provider_request_id: str | None,
    *,
    sandbox: bool,
) -> Fact[UsageRecorded]:
    event = UsageRecorded(
        user_id=hold.user_id,
        operation="chat",
        provider=paid.provider,
        model=paid.model,
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
        key_organisation_id=paid.key_organisation_id,
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
