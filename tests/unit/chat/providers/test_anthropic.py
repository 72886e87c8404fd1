"""Anthropic's wire: what it is asked, and how its answers are read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chat.domain.content import (
    AnswerFormat,
    ContentPart,
    ImagePart,
    Role,
    TextPart,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from services.chat.domain.content import Utterance as Said
from services.chat.domain.errors import ModelUnavailable, PromptTooLong, VendorRejectedRequest
from services.chat.domain.frames import Began, Ended, Frame, Text, Thinking, Thoughts, ToolCallPiece
from services.chat.domain.turn import Prompt
from services.chat.domain.usage import Usage
from services.chat.providers.anthropic import Anthropic, stream_reader, whole_reader
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
from tests.support.simulator.anthropic.errors import REFUSALS
from tests.support.wires import a_prompt, cut_at, read, the_end, told, whole

WIRE = Anthropic()
OLD, NEW = "2023-06-01", "2026-10-21"
SONNET, OPUS, OLD_SONNET = "claude-sonnet-5-5", "claude-opus-5-5", "claude-sonnet-4-6"
TOOL = Tool("look", "Looks it up.", {"properties": {"q": {"type": "string"}}})
USAGE = {
    "input_tokens": 200,
    "cache_creation_input_tokens": 500,
    "cache_read_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 1,
    "output_tokens_details": {"thinking_tokens": 0},
    "service_tier": "standard",
    "speed": "standard",
}


def anthropic(*said: Said | str, **parts: Any) -> Prompt:
    return a_prompt("anthropic", *said, **parts)


def asked(*said: Said | str, **parts: Any) -> dict[str, Any]:
    return dict(WIRE.request(anthropic(*said, **parts), stream=False).body)


def event(kind: str, **fields: Any) -> bytes:
    payload = orjson.dumps({"type": kind, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), payload)


def delta(index: int, kind: str, **fields: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


def block(index: int, kind: str, **fields: Any) -> bytes:
    return event("content_block_start", index=index, content_block={"type": kind, **fields})


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


def start(**usage: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": SONNET}
    return event("message_start", message={**message, "content": [], "usage": {**USAGE, **usage}})


def end(reason: str | None = "end_turn", usage: Any = None, **more: Any) -> bytes:
    usage = {"output_tokens": 350} if usage is None else usage
    changed = {"stop_reason": reason, "stop_sequence": None, **more}
    return event("message_delta", delta=changed, usage=usage) + event("message_stop")


PING = event("ping")
TEXT = (
    start()
    + block(0, "text", text="")
    + PING
    + delta(0, "text_delta", text="Grüße, ")
    + delta(0, "text_delta", text="漢字\u2028🙂")
    + stop(0)
)
TOOLS = (
    start()
    + block(0, "thinking", thinking="", signature="")
    + delta(0, "thinking_delta", thinking="Let me ")
    + delta(0, "thinking_delta", thinking="see.")
    + delta(0, "signature_delta", signature="c2ln")
    + stop(0)
    + block(1, "redacted_thinking", data="b3BhcXVl")
    + stop(1)
    + block(2, "text", text="")
    + delta(2, "text_delta", text="Wait.")
    + stop(2)
    + block(3, "tool_use", id="toolu_1", name="look", input={})
    + delta(3, "input_json_delta", partial_json="")
    + delta(3, "input_json_delta", partial_json='{"q":')
    + delta(3, "input_json_delta", partial_json=' "x"}')
    + stop(3)
    + block(4, "tool_use", id="toolu_2", name="now", input={})
    + delta(4, "input_json_delta", partial_json="")
    + stop(4)
    + end("tool_use")
)


def streamed(data: bytes) -> list[Frame]:
    return whole(stream_reader(), data)


# What is asked


def test_the_simplest_question() -> None:
    request = WIRE.request(anthropic("hello"), stream=True)

    assert request.path == "/v1/messages"
    assert request.headers == {"anthropic-version": NEW}
    assert request.body == {
        "model": SONNET,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "metadata": {"user_id": "opaque"},
        "stream": True,
    }
    assert "stream" not in asked("hello")


def test_the_system_speaks_apart() -> None:
    body = asked(Said(Role.SYSTEM, "Be kind."), "hello", system_prompt="Be brief.")

    assert body["system"] == "Be brief.\n\nBe kind."
    assert [message["role"] for message in body["messages"]] == ["user"]


def test_turns_of_the_same_side_are_one_and_empty_ones_are_none() -> None:
    body = asked(
        "one",
        Said(Role.ASSISTANT, " \n"),
        "two",
        Said(Role.ASSISTANT, "three"),
        Said(Role.ASSISTANT, "four"),
        "five",
    )
    said = [(m["role"], [b["text"] for b in m["content"]]) for m in body["messages"]]
    assert said == [("user", ["one", "two"]), ("assistant", ["three", "four"]), ("user", ["five"])]


@pytest.mark.parametrize("model", [SONNET, "claude-haiku-4-5"])
def test_a_conversation_never_ends_with_the_assistant(model: str) -> None:
    messages = asked("one", Said(Role.ASSISTANT, "two"), model=model)["messages"]

    assert messages[-1] == {"role": "user", "content": [{"type": "text", "text": "Continue."}]}


def test_tools_and_what_came_of_them() -> None:
    calls = [ToolCall("toolu_1", "look", '{"q":"x"}'), ToolCall("call:2/b", "now", "")]
    thoughts = [
        Thought("openai", {"type": "reasoning", "id": "rs_1"}),
        Thought("anthropic", {"type": "thinking", "thinking": "hm", "signature": "c2ln"}),
        Thought("anthropic", {"type": "redacted_thinking", "data": "b3A="}),
    ]
    results = [ToolResult("toolu_1", "42"), ToolResult("call:2/b", "no clock", failed=True)]
    body = asked(
        "what?",
        Said(Role.ASSISTANT, "Wait.", tool_calls=calls, thoughts=thoughts),
        "and quickly",
        Said(Role.TOOL, "", tool_results=[*results, ToolResult("toolu_3", " ")]),
        tools=[TOOL, Tool("now", strict=True)],
    )

    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "b3A="},
        {"type": "text", "text": "Wait."},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"q": "x"}},
        {"type": "tool_use", "id": "call_2_b", "name": "now", "input": {}},
    ]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"},
        {
            "type": "tool_result",
            "tool_use_id": "call_2_b",
            "content": "no clock",
            "is_error": True,
        },
        {"type": "tool_result", "tool_use_id": "toolu_3"},
        {"type": "text", "text": "and quickly"},
    ]
    assert body["tools"] == [
        {
            "name": "look",
            "description": "Looks it up.",
            "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}},
        },
        {"name": "now", "input_schema": {"type": "object"}, "strict": True},
    ]
    assert "tool_choice" not in body


def test_arguments_that_are_no_object_are_shown_to_their_author() -> None:
    calls = [ToolCall("c1", "look", '{"q":'), ToolCall("c2", "look", "[1]")]
    body = asked("a", Said(Role.ASSISTANT, "", tool_calls=calls), "b")

    inputs = [block["input"] for block in body["messages"][1]["content"]]
    assert inputs == [{"INVALID_JSON": '{"q":'}, {"INVALID_JSON": "[1]"}]


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("required"), True, {"type": "any"}),
        (ToolChoice("named", "look"), None, {"type": "tool", "name": "look"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_the_choice_of_tools(
    choice: ToolChoice | None, parallel: bool | None, expected: dict[str, Any]
) -> None:
    parts: dict[str, Any] = {"tool_choice": choice, "parallel_tool_calls": parallel}
    assert asked("a", tools=[TOOL], **parts)["tool_choice"] == expected
    assert "tool_choice" not in asked("a", **parts)


def test_images_by_their_bytes_and_by_url() -> None:
    parts: list[ContentPart] = [
        TextPart("What is this?"),
        ImagePart("image/png", b"\x89PNG"),
        ImagePart(url="https://images.invalid/a.png"),
        TextPart(""),
    ]
    body = asked(Said(Role.USER, "What is this?", parts=parts))

    png = {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": png},
        {"type": "image", "source": {"type": "url", "url": "https://images.invalid/a.png"}},
    ]


@pytest.mark.parametrize(
    ("model", "wishes", "expected", "version"),
    [
        (SONNET, {"temperature": 0.2, "top_p": 0.5}, {}, NEW),
        ("claude-unheard-of", {"temperature": 0.2}, {}, NEW),
        (OLD_SONNET, {}, {}, NEW),
        (OLD_SONNET, {"temperature": 0.2, "top_p": 0.5}, {"temperature": 0.2}, OLD),
        (OLD_SONNET, {"temperature": 0.0}, {"temperature": 0.0}, OLD),
        ("claude-haiku-4-5-20251001", {"temperature": 1.7}, {"temperature": 1.0}, OLD),
        (OLD_SONNET, {"top_p": 0.5}, {"top_p": 0.5}, OLD),
        (OLD_SONNET, {"temperature": 0.2, "effort": "high"}, {}, NEW),
    ],
)
def test_sampling_goes_by_the_old_version_and_only_where_it_is_taken(
    model: str, wishes: dict[str, Any], expected: dict[str, Any], version: str
) -> None:
    request = WIRE.request(anthropic(model=model, **wishes), stream=False)

    sent = {name: request.body[name] for name in ("temperature", "top_p") if name in request.body}
    assert sent == expected
    assert request.headers["anthropic-version"] == version


@pytest.mark.parametrize(
    ("model", "effort", "sent", "thinking"),
    [
        (SONNET, "minimal", "low", "adaptive"),
        (SONNET, "xhigh", "xhigh", "adaptive"),
        (SONNET, "none", None, "disabled"),
        (OPUS, "none", "low", None),
        (OPUS, "max", "max", "adaptive"),
        (OLD_SONNET, "xhigh", "high", "adaptive"),
        ("claude-haiku-4-5", "high", None, None),
        ("claude-haiku-4-5", "none", None, None),
    ],
)
def test_effort_by_model(model: str, effort: Any, sent: str | None, thinking: str | None) -> None:
    body = asked(model=model, effort=effort)

    assert body.get("output_config", {}).get("effort") == sent
    assert body.get("thinking", {}).get("type") == thinking


def test_a_forced_call_leaves_no_room_for_thinking() -> None:
    body = asked(effort="high", tools=[TOOL], tool_choice=ToolChoice("required"))

    assert "thinking" not in body
    assert body["output_config"] == {"effort": "high"}


def test_json_by_a_schema_and_by_request() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    body = asked(answer_format=AnswerFormat(schema), stop=["END", "FIN"])
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert body["stop_sequences"] == ["END", "FIN"]

    body = asked(answer_format=AnswerFormat(), system_prompt="Be brief.")
    assert "output_config" not in body
    assert body["system"].startswith("Be brief.\n\nAnswer with a single JSON object")


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
