"""What chat can tell of a call is what an event may be, and whatever that may be the ledger takes:
an event that its only reader refuses is lost for good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from services.billing.domain.ledger import Entry
from services.billing.tasks.usage_text import read_text
from services.chat.actions.settle_turn import usage_facts
from services.chat.domain.relaying import Heard
from services.chat.providers import chat_wires
from shared.events import Fact
from shared.events.usage import LONGEST_TEXT, MOST_UNITS, UsageRecorded
from shared.ids import EventId, uuid7
from tests.support.billing import EPOCH, a_usage
from tests.support.chat_calls import a_hold
from tests.support.wires import read

NAMES = ("provider", "model", "service_tier", "request_id", "provider_request_id")
COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
)
PATHS = {
    "openai": ["/v1/chat/completions", "/v1/responses"],
    "anthropic": ["/v1/messages"],
    "gemini": ["/v1/models/a:generateContent"],
}
SAID = {
    "type": "message",
    "status": "completed",
    "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hello"}],
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}],
    "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}],
    "candidates": [{"content": {"parts": [{"text": "Hello"}]}, "finishReason": "STOP"}],
}
_NUMBERS = """
    prompt_tokens completion_tokens input_tokens output_tokens cache_read_input_tokens
    cache_creation_input_tokens promptTokenCount toolUsePromptTokenCount cachedContentTokenCount
    candidatesTokenCount thoughtsTokenCount cached_tokens reasoning_tokens thinking_tokens
"""
numbers = st.sampled_from([None, 0, 5, 10**6, 10**11, 10**12, 10**19, -1, 5.0, 1e300, "7", "x"])
counts = st.sampled_from(_NUMBERS.split())
details = st.dictionaries(counts, numbers, max_size=4)
usages = st.builds(
    lambda counts, input_, output, steps: {
        **counts,
        **dict.fromkeys(("prompt_tokens_details", "input_tokens_details"), input_),
        **dict.fromkeys(("completion_tokens_details", "output_tokens_details"), output),
        "iterations": [{**step, "type": "compaction"} for step in steps],
    },
    st.dictionaries(counts, numbers, min_size=1),
    details,
    details,
    st.lists(details, max_size=3),
)
names = st.sampled_from([None, "", "x", "x" * 300, "x" * 5_000, 7, "\0" * 400, "\u6f22" * 400])


def taken(facts: list[Fact[UsageRecorded]]) -> bool:
    """Whether the ledger takes them, one by one and together, as they come off the broker."""
    wire = [fact.sent_as(EPOCH, place).to_wire() for place, fact in enumerate(facts, 1)]
    text = orjson.dumps(wire, option=orjson.OPT_SORT_KEYS).decode()
    entries = [Entry.reported(Fact.from_wire(one)) for one in wire]  # type: ignore[arg-type]
    return len(entries) == len(facts) and read_text(text) is not None


def test_the_largest_event_is_taken() -> None:
    names: dict[str, Any] = dict.fromkeys(NAMES, "x" * 5_000)
    counts: dict[str, Any] = dict.fromkeys(COUNTS, MOST_UNITS)
    fact = a_usage(**names, **counts)
    fact = replace(fact, request_id="x" * 200)  # as any envelope may have it
    assert {getattr(fact.event, name) for name in NAMES} == {"x" * LONGEST_TEXT}
    assert taken([fact])


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("count", [-1, MOST_UNITS + 1, 2**63])
def test_a_larger_count_is_none(name: str, count: int) -> None:
    told: Any = {name: count}
    with pytest.raises(ValidationError):
        a_usage(**told)


def test_what_was_told_with_a_longer_name_is_taken_too() -> None:
    wire = a_usage().to_wire()
    wire["data"]["provider_request_id"] = "x" * 415
    fact: Any = Fact.from_wire(wire)
    assert Entry.reported(fact).provider_request_id == "x" * LONGEST_TEXT


@settings(max_examples=100, deadline=None)
@given(usages, names, names, names)
def test_whatever_a_vendor_counts_and_calls_itself_is_taken(
    usage: Any, id_: Any, model: Any, tier: Any
) -> None:
    named = {"id": id_, "responseId": id_, "model": model, "modelVersion": model}
    usage = {**usage, "speed": tier, "inference_geo": tier}
    document = {**SAID, **named, "service_tier": tier, "usage": usage, "usageMetadata": usage}
    for provider, paths in PATHS.items():
        for path in paths:
            reader = chat_wires[provider].raw_reader(path, streamed=False)
            frames, failure = read(reader, [orjson.dumps(document)])
            assert failure is None
            heard = Heard()
            heard.is_asked = True
            heard.take(frames)
            hold = a_hold(usage_event_id=EventId(uuid7()), user_id=uuid4(), provider=provider)
            settlement = heard.settlement(
                hold, None, max_output_tokens=1_000, ended_as=None, elapsed_ms=1
            )
            assert taken(list(usage_facts(hold, settlement, sandbox=False)))
