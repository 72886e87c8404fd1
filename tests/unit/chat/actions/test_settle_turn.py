"""What a turn costs, and what billing is told of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from services.chat.actions.settle_turn import SettleTurn, usage_facts
from services.chat.domain.conversation import SessionId
from services.chat.domain.ports import Quote
from services.chat.domain.turn import Abandoned, Outcome, Settlement, Surface
from services.chat.domain.usage import Usage
from services.chat.wiring import quote
from shared.ids import EventId
from tests.support.chat import NOON, MemoryTurns, StoppedClock
from tests.support.chat_calls import a_hold

CHEAP_BELOW_100K = "claude-haiku-5-5"
HOLD = a_hold(
    provider="anthropic",
    model=CHEAP_BELOW_100K,
    input_estimate=0,
    lease_expires_at=NOON + timedelta(minutes=1),
    surface=Surface.ANTHROPIC,
)
SUMMING_UP = Usage(input_tokens=90_000, cache_read_tokens=10_000, output_tokens=3_000)
ANSWER = Usage(input_tokens=20_000, cache_write_tokens=500, output_tokens=700)
BOTH = Usage(
    input_tokens=110_000,
    cache_read_tokens=10_000,
    cache_write_tokens=500,
    output_tokens=3_700,
    asides=(SUMMING_UP,),
)


def ended(usage: Usage, model: str = CHEAP_BELOW_100K) -> Settlement:
    return Settlement(Outcome.DONE, "This.", usage, "anthropic", model, "msg_1", 12)


@pytest.fixture
def settle() -> SettleTurn:
    return SettleTurn(MemoryTurns(), quote, StoppedClock(), sandbox=True)


def test_calls_on_the_way_cost_what_each_of_them_costs(settle: SettleTurn) -> None:
    costs = [settle.priced(HOLD, ended(usage)).cost_microusd for usage in (SUMMING_UP, ANSWER)]
    both = settle.priced(HOLD, ended(BOTH)).cost_microusd
    assert both == sum(cost or 0 for cost in costs)
    # Together they would lie beyond the threshold from which each token costs five times as much.
    whole = settle.priced(HOLD, ended(replace(BOTH, asides=()))).cost_microusd
    assert both is not None
    assert whole is not None
    assert whole > 4 * both
    assert settle.priced(HOLD, ended(BOTH, "unheard-of")).cost_microusd is None


def test_billing_is_told_of_each_call_once() -> None:
    lost = Abandoned(EventId(uuid4()), "anthropic", CHEAP_BELOW_100K, BOTH)
    settlement = replace(ended(BOTH), abandoned=[lost])
    facts = usage_facts(HOLD, settlement, sandbox=True)
    told = [(fact.event.outcome, fact.event.input_tokens) for fact in facts]
    assert told == [
        ("provider_failed", 20_000),
        ("provider_failed", 90_000),
        ("done", 20_000),
        ("done", 90_000),
    ]
    assert [facts[0].id, facts[2].id] == [lost.usage_event_id, HOLD.usage_event_id]
    assert len({fact.id for fact in facts}) == 4
    again = usage_facts(HOLD, settlement, sandbox=True)
    assert [fact.id for fact in again] == [fact.id for fact in facts]
    main, aside = facts[2].event, facts[3].event
    assert (main.cache_read_tokens, main.cache_write_tokens, main.output_tokens) == (0, 500, 700)
    assert (aside.cache_read_tokens, aside.output_tokens) == (10_000, 3_000)


def test_what_its_vendor_refused_costs_nothing(settle: SettleTurn) -> None:
    refused = settle.priced(HOLD, replace(ended(ANSWER), outcome=Outcome.REFUSED))
    assert (refused.cost_microusd, refused.price_version) == (None, None)


def test_a_cost_is_unknown_where_that_of_one_call_is() -> None:
    def of_short_ones(provider: str, model: str, usage: Usage, at: datetime) -> Quote | None:
        return Quote(7, "test") if usage.input_tokens < 50_000 else None

    settle = SettleTurn(MemoryTurns(), of_short_ones, StoppedClock(), sandbox=True)
    assert settle.priced(HOLD, ended(ANSWER)).cost_microusd == 7
    both = settle.priced(HOLD, ended(BOTH))
    assert (both.cost_microusd, both.price_version) == (None, None)


def test_it_costs_what_it_did_when_it_began() -> None:
    asked: list[datetime] = []

    def at_that_time(provider: str, model: str, usage: Usage, at: datetime) -> Quote | None:
        asked.append(at)
        return Quote(7, "test")

    later = StoppedClock(NOON + timedelta(days=1))
    SettleTurn(MemoryTurns(), at_that_time, later, sandbox=True).priced(HOLD, ended(ANSWER))
    assert asked == [NOON]


async def test_a_settlement_that_changes_nothing_is_told_to_nobody() -> None:
    heard: list[Settlement] = []
    turns = MemoryTurns()
    turns.holds[HOLD.id] = HOLD
    settle = SettleTurn(
        turns, quote, StoppedClock(), sandbox=True, settled=lambda _hold, it: heard.append(it)
    )
    assert [await settle.once(HOLD, ended(ANSWER)) for _ in range(2)] == [True, False]
    assert len(heard) == 1


def test_billing_is_told_all_that_a_price_depends_on() -> None:
    used = Usage(50, 10, 5, 40, 30, source="counted", service_tier="priority")
    (fact,) = usage_facts(HOLD, ended(used), sandbox=False)
    told = fact.event
    assert (told.input_tokens, told.cache_read_tokens, told.cache_write_tokens) == (50, 10, 5)
    assert (told.output_tokens, told.output_reasoning_tokens) == (40, 30)
    assert (told.source, told.service_tier, told.sandbox) == ("counted", "priority", False)
    assert (told.request_id, told.provider_request_id) == ("request-1", "msg_1")
    assert (fact.time, fact.tier, fact.subject) == (NOON, "pro", HOLD.user_id)


def test_calls_on_the_way_have_an_identity_each() -> None:
    usage = replace(BOTH, asides=(Usage(1), Usage(2), Usage(3)))
    facts = usage_facts(HOLD, ended(usage), sandbox=True)
    assert len({fact.id for fact in facts}) == 4


@pytest.mark.parametrize("sandbox", [True, False])
def test_billing_is_told_of_the_session_and_whether_it_was_for_real(sandbox: bool) -> None:
    session_id = SessionId(uuid4())
    (fact,) = usage_facts(replace(HOLD, session_id=session_id), ended(ANSWER), sandbox=sandbox)
    assert (fact.event.session_id, fact.event.sandbox) == (session_id, sandbox)
