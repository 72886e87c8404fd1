"""Anthropic's wire: how its answers are read, what it refuses, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chat.domain.content import (
    Role,
    Thought,
)
from services.chat.domain.content import Utterance as Said
from services.chat.domain.errors import ModelUnavailable, PromptTooLong, VendorRejectedRequest
from services.chat.domain.frames import Began, Ended, Text, Thinking, Thoughts, ToolCallPiece
from services.chat.domain.usage import Usage
from services.chat.providers.anthropic import stream_reader, whole_reader
from shared.clients.egress import NoUsableKey
from shared.errors import ExpectedFailure
from shared.pricing import price
from shared.vendors.failures import (
    VendorFailed,
    VendorOverloaded,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)
from tests.support.anthropic_wire import (
    OPUS,
    PING,
    SONNET,
    TEXT,
    TOOLS,
    USAGE,
    WIRE,
    anthropic,
    asked,
    block,
    delta,
    end,
    event,
    start,
    stop,
    streamed,
)
from tests.support.simulator.anthropic.errors import REFUSALS
from tests.support.wires import cut_at, read, the_end, told, whole

# What is answered


def test_a_text() -> None:
    assert streamed(TEXT + end()) == [
        Began("msg_1", SONNET),
        Text("Grüße, "),
        Text("漢字\u2028🙂"),
        Ended(
            "stop",
            Usage(
                input_tokens=1700,
                cache_read_tokens=1000,
                cache_write_tokens=500,
                output_tokens=350,
                service_tier="standard",
            ),
        ),
    ]


def test_thoughts_are_kept_whole_and_calls_come_in_pieces() -> None:
    frames = streamed(TOOLS)

    assert frames[:-2] == [
        Began("msg_1", SONNET),
        Thinking("Let me "),
        Thinking("see."),
        Text("Wait."),
        ToolCallPiece(0, "toolu_1", "look"),
        ToolCallPiece(0, arguments='{"q":'),
        ToolCallPiece(0, arguments=' "x"}'),
        ToolCallPiece(1, "toolu_2", "now"),
        ToolCallPiece(1, arguments="{}"),
    ]
    thinking = {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}
    redacted = {"type": "redacted_thinking", "data": "b3BhcXVl"}
    thoughts = [Thought("anthropic", thinking), Thought("anthropic", redacted)]
    assert frames[-2] == Thoughts(tuple(thoughts))
    assert the_end(frames).reason == "tool_calls"
    # They go back as they came.
    said = Said(Role.ASSISTANT, "Wait.", thoughts=thoughts)
    assert asked("a", said, "b")["messages"][1]["content"][:2] == [thinking, redacted]


@settings(deadline=None)
@given(st.sampled_from([TEXT + end(), TOOLS, TEXT]), st.lists(st.integers(0, 9999), max_size=30))
def test_however_the_bytes_are_cut(data: bytes, places: list[int]) -> None:
    frames, failure = read(stream_reader(), cut_at(data, places))
    expected, expected_failure = read(stream_reader(), [data])
    assert frames == expected
    assert type(failure) is type(expected_failure)


@pytest.mark.parametrize("data", [TEXT + end(), TOOLS])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_byte_by_byte_with_any_end_of_line(data: bytes, ending: bytes) -> None:
    data = data.replace(b"\n", ending)
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert read(stream_reader(), pieces) == (streamed(data), None)


def test_a_text_holds_nothing_that_cannot_be_stored() -> None:
    data = start() + delta(0, "text_delta", text="a\0b") + end()
    assert told(streamed(data))[0] == "a\ufffdb"


def test_what_means_nothing_is_passed_over() -> None:
    odd = [
        b": a comment\n\n",
        event("content_block_novelty", index=0, novelty={}),
        block(7, "server_tool_use", id="srvtoolu_1", name="web_search", input={}),
        delta(7, "input_json_delta", partial_json='{"query":"x"}'),
        stop(7),
        block(8, "web_search_tool_result", tool_use_id="srvtoolu_1", content=[]),
        stop(8),
        event("content_block_start", index=9, content_block={"type": [], "text": "of no kind"}),
        delta(10, "thinking_delta", thinking="of no block"),
        delta(0, "citations_delta", citation={"type": "page_location"}),
        event("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 100}),
        b"data:\n\n",
    ]
    assert streamed(TEXT + PING.join(odd) + end()) == streamed(TEXT + end())


def test_counts_are_cumulative_and_not_added() -> None:
    later = {"output_tokens": 350, "input_tokens": 210, "cache_read_input_tokens": None}
    details = {"output_tokens_details": {"thinking_tokens": 100}}
    first = event("message_delta", delta={}, usage={"output_tokens": 120})
    usage = the_end(streamed(TEXT + first + end(usage=later | details))).usage
    assert usage == Usage(1710, 1000, 500, 350, 100, service_tier="standard")


def test_without_a_count_there_is_no_usage() -> None:
    message = {"id": "msg_1", "model": SONNET, "usage": {"input_tokens": 0, "output_tokens": 0}}
    data = event("message_start", message=message) + end(usage={"output_tokens": 0})
    assert the_end(streamed(data)).usage is None


@pytest.mark.parametrize(
    ("word", "reason", "why"),
    [
        ("end_turn", "stop", None),
        ("stop_sequence", "stop", "stop_sequence"),
        ("max_tokens", "length", None),
        ("model_context_window_exceeded", "length", "model_context_window_exceeded"),
        ("tool_use", "tool_calls", None),
        ("pause_turn", "paused", None),
        ("refusal", "content_filter", "cyber"),
        ("something_new", "other", "something_new"),
    ],
)
def test_why_it_ended(word: str, reason: str, why: str | None) -> None:
    details = {"type": "refusal", "category": "cyber"} if word == "refusal" else None
    ended = the_end(streamed(TEXT + end(word, stop_details=details)))
    assert (ended.reason, ended.why, ended.continuation) == (reason, why, None)
    # Only the vendor's own tools make it pause, and they are not offered.
    assert WIRE.continued(WIRE.request(anthropic(), stream=True), ended) is None


def test_a_refusal_without_a_category() -> None:
    assert the_end(streamed(TEXT + end("refusal", stop_details=None))).why is None


@pytest.mark.parametrize("data", [b"", start(), TEXT, TEXT + end().partition(b"event: mess")[0]])
def test_a_stream_that_ends_too_early_was_cut(data: bytes) -> None:
    _, failure = read(stream_reader(), [data])
    assert isinstance(failure, VendorFailed)
    assert failure.billed


def _error(kind: str) -> bytes:
    return event("error", error={"type": kind, "message": "…"}, request_id="req_1")


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("overloaded_error", VendorOverloaded),
        ("rate_limit_error", VendorRateLimited),
        ("api_error", VendorOverloaded),
        ("timeout_error", VendorOverloaded),
        ("invalid_request_error", VendorRejectedRequest),
        ("authentication_error", NoUsableKey),
        ("billing_error", VendorQuotaExhausted),
        ("unheard_of_error", VendorOverloaded),
    ],
)
def test_an_error_in_a_stream_is_free_only_before_anything_was_said(
    kind: str, failure: type[Exception]
) -> None:
    before = start() + PING + block(0, "text", text="")
    frames, raised = read(stream_reader(), [before + _error(kind)])
    assert frames == [Began("msg_1", SONNET)]
    assert type(raised) is failure

    for said in (delta(0, "text_delta", text="Hi"), delta(0, "signature_delta", signature="c2ln")):
        frames, raised = read(stream_reader(), [before + said + _error(kind)])
        assert type(raised) is VendorFailed
        assert raised.billed
    assert frames == [Began("msg_1", SONNET)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 9999), max_size=20))
def test_what_was_said_before_an_error_is_told(places: list[int]) -> None:
    frames, failure = read(stream_reader(), cut_at(TEXT + _error("overloaded_error"), places))
    assert told(frames)[0] == "Grüße, 漢字\u2028🙂"
    assert type(failure) is VendorFailed


def test_an_event_too_large_to_be_one() -> None:
    _, failure = read(stream_reader(), [b"data: ", *[b"x" * (1 << 20)] * 9])
    assert isinstance(failure, VendorFailed)


def _message(content: Sequence[Any], reason: str | None = "end_turn", **more: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": SONNET}
    usage = {**USAGE, "output_tokens": 350}
    return orjson.dumps(
        {**message, "content": content, "stop_reason": reason, "usage": usage, **more}
    )


def test_a_whole_answer_says_what_a_stream_does() -> None:
    content = [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        {"type": "text", "text": "Wait.", "citations": None},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"q": "x"}},
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    ]
    frames = whole(whole_reader(), _message(content, "tool_use"))

    expected = streamed(TOOLS)
    assert told(frames) == ("Wait.", "Let me see.", [("look", '{"q":"x"}'), ("now", "{}")])
    assert (frames[0], frames[-2:]) == (expected[0], expected[-2:])


def test_a_whole_answer_byte_by_byte() -> None:
    data = _message([{"type": "text", "text": "Hi"}])
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert read(whole_reader(), pieces) == (whole(whole_reader(), data), None)


def test_an_error_in_place_of_a_whole_answer() -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "…"}}
    _, failure = read(whole_reader(), [orjson.dumps(body)])
    assert type(failure) is VendorOverloaded
    _, failure = read(whole_reader(), [_message([], None)])
    assert type(failure) is VendorFailed


def test_a_clients_own_call_is_read_alike() -> None:
    assert whole(WIRE.raw_reader("/v1/messages", streamed=True), TOOLS) == streamed(TOOLS)
    data = _message([{"type": "text", "text": "Hi"}])
    raw = whole(WIRE.raw_reader("/v1/messages", streamed=False), data)
    assert raw == whole(whole_reader(), data)


# What is refused


@pytest.mark.parametrize(
    ("kind", "failure", "reason"),
    [
        ("no_key", NoUsableKey, "key_rejected"),
        ("invalid_key", NoUsableKey, "key_rejected"),
        ("cors", VendorRejectedRequest, None),
        ("missing_scope", NoUsableKey, "key_restricted"),
        ("permission", NoUsableKey, "key_restricted"),
        ("region", NoUsableKey, "key_restricted"),
        ("organization_on_hold", NoUsableKey, "key_restricted"),
        ("bad_request", VendorRejectedRequest, None),
        ("context_length", PromptTooLong, None),
        ("usage_limit", VendorQuotaExhausted, None),
        ("workspace_usage_limit", VendorQuotaExhausted, None),
        ("quota", VendorQuotaExhausted, None),
        ("model_not_found", ModelUnavailable, None),
        ("conflict", VendorOverloaded, None),
        ("too_large", VendorRejectedRequest, None),
        ("rate_limit", VendorRateLimited, None),
        ("ramp_limit", VendorRateLimited, None),
        ("spend_limit", VendorQuotaExhausted, None),
        ("contract_spend_limit", VendorQuotaExhausted, None),
        ("server_error", VendorOverloaded, None),
        ("bad_gateway", VendorOverloaded, None),
        ("unavailable", VendorOverloaded, None),
        ("gateway_timeout", VendorOverloaded, None),
        ("overloaded", VendorOverloaded, None),
    ],
)
def test_every_refusal_has_its_meaning(
    kind: str, failure: type[Exception], reason: str | None
) -> None:
    vendors = REFUSALS[kind]
    raised = WIRE.refusal(vendors.status, vendors.body, vendors.headers)

    assert type(raised) is failure
    assert isinstance(raised, ExpectedFailure)
    assert raised.facts.get("reason") == reason
    assert vendors.body["error"]["message"] not in raised.message


def test_every_refusal_of_the_simulator_is_in_the_table_above() -> None:
    (mark,) = [
        mark
        for mark in test_every_refusal_has_its_meaning.pytestmark  # type: ignore[attr-defined]
        if mark.name == "parametrize"
    ]
    assert {row[0] for row in mark.args[1]} == set(REFUSALS)


@pytest.mark.parametrize(
    ("kind", "wait", "again"),
    [("rate_limit", timedelta(seconds=1), None), ("contract_spend_limit", None, False)],
)
def test_a_wait_is_kept_and_money_does_not_come_by_waiting(
    kind: str, wait: timedelta | None, again: bool | None
) -> None:
    vendors = REFUSALS[kind]
    raised = WIRE.refusal(vendors.status, vendors.body, vendors.headers)
    assert isinstance(raised, VendorRefused)
    assert (raised.retry_after, raised.again) == (wait, again)


def test_the_vendor_has_the_last_word_on_another_try() -> None:
    raised = WIRE.refusal(529, {}, {"retry-after": "3", "x-should-retry": "false"})
    assert isinstance(raised, VendorRefused)
    assert (raised.retry_after, raised.again) == (timedelta(seconds=3), False)


# What it costs


def test_the_worked_examples_cost_what_they_should() -> None:
    at = datetime(2026, 11, 24, 12, tzinfo=UTC)
    details = {"output_tokens": 350, "output_tokens_details": {"thinking_tokens": 100}}
    usage = the_end(streamed(TEXT + end(usage=details))).usage
    assert usage is not None
    assert usage.output_reasoning_tokens == 100
    priced = price("anthropic", SONNET, usage, at, usage.service_tier)
    assert priced is not None
    assert priced.cost == 5_250

    long = start(input_tokens=150_000, cache_creation_input_tokens=0, cache_read_input_tokens=0)
    usage = the_end(streamed(long + end(usage={"output_tokens": 1000}))).usage
    assert usage is not None
    priced = price("anthropic", "claude-haiku-5-5", usage, at, usage.service_tier)
    assert priced is not None
    assert priced.cost == 77_500


def test_what_it_takes_to_sum_up_a_conversation_counts() -> None:
    compaction = {
        "type": "compaction",
        "input_tokens": 180_000,
        "cache_read_input_tokens": 20_000,
        "cache_creation_input_tokens": 300,
        "output_tokens": 3_500,
    }
    said = {"type": "message", "input_tokens": 200, "output_tokens": 40}
    told = {"output_tokens": 40, "iterations": [compaction, said]}
    usage = the_end(streamed(start() + end(usage=told))).usage
    assert usage == Usage(
        input_tokens=1_700 + 200_300,
        cache_read_tokens=21_000,
        cache_write_tokens=800,
        output_tokens=3_540,
        service_tier="standard",
        asides=(
            Usage(
                input_tokens=200_300,
                cache_read_tokens=20_000,
                cache_write_tokens=300,
                output_tokens=3_500,
                service_tier="standard",
            ),
        ),
    )


@pytest.mark.parametrize(
    ("counts", "tier", "times"),
    [
        ({"inference_geo": "us"}, "standard/us", 1.1),
        ({"inference_geo": "us", "speed": None}, "standard/us", 1.1),
        ({"inference_geo": "global"}, "standard", 1),
        ({"inference_geo": "not_available"}, "standard", 1),
        ({"inference_geo": "moon"}, "standard/moon", None),
    ],
)
def test_one_part_of_the_world_has_its_price(
    counts: dict[str, Any], tier: str, times: float | None
) -> None:
    at = datetime(2026, 11, 24, 12, tzinfo=UTC)
    usage = the_end(streamed(start(**counts) + end())).usage
    assert usage is not None
    assert usage.service_tier == tier
    there = price("anthropic", OPUS, usage, at, tier)
    anywhere = price("anthropic", OPUS, usage, at, "standard")
    assert anywhere is not None
    if times is None:
        assert there is None
    else:
        assert there is not None
        assert there.cost == pytest.approx(anywhere.cost * times, abs=1)


def test_speed_has_its_price() -> None:
    at = datetime(2026, 11, 24, 12, tzinfo=UTC)
    usage = the_end(streamed(start(speed="fast") + end())).usage
    assert usage is not None
    fast = price("anthropic", OPUS, usage, at, usage.service_tier)
    plain = price("anthropic", OPUS, usage, at, "standard")
    assert fast is not None
    assert plain is not None
    assert fast.cost > plain.cost
