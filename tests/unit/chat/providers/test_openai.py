"""OpenAI's Chat Completions: what it is asked, and how its answers and refusals are read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain.content import (
    AnswerFormat,
    ContentPart,
    ImagePart,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from services.chat.domain.content import Utterance as Said
from services.chat.domain.errors import ModelUnavailable, PromptTooLong, VendorRejectedRequest
from services.chat.domain.frames import Began, Ended, Frame, Text, Thinking, ToolCallPiece
from services.chat.domain.turn import Prompt
from services.chat.domain.usage import Usage
from services.chat.providers.openai import OpenAI
from shared.vendors.failures import (
    NoUsableKey,
    VendorFailed,
    VendorOverloaded,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)
from tests.support.simulator.openai.errors import REFUSALS
from tests.support.wires import a_prompt, cut_at, read, the_end, told, whole

WIRE = OpenAI()
LUNA, TERRA, OLD = "gpt-6-luna", "gpt-6.1-terra", "gpt-4o"
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
TOOL = Tool("look", "Looks it up.", SCHEMA)
USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 350,
    "total_tokens": 1550,
    "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 7},
    "completion_tokens_details": {"reasoning_tokens": 200},
}
COUNTED = Usage(1200, 1000, 7, 350, 200, service_tier="default")


def openai(*said: Said | str, **parts: Any) -> Prompt:
    return a_prompt("openai", *said, **parts)


def body_of(*said: Said | str, stream: bool = False, **parts: Any) -> Any:
    request = WIRE.request(openai(*said, **parts), stream=stream)
    assert request.path == "/v1/chat/completions"
    return request.body


def reader(*, streamed: bool = True, **parts: Any) -> Any:
    return WIRE.request(openai(**parts), stream=streamed).reader()


def streamed(data: bytes, **parts: Any) -> list[Frame]:
    return whole(reader(**parts), data)


def chunk(delta: Any = None, finish: str | None = None, **parts: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": LUNA}
    fields = {**head, "service_tier": "default", "choices": [choice], "usage": None, **parts}
    return b"data: " + orjson.dumps(fields) + b"\n\n"


DONE = b"data: [DONE]\n\n"
START = chunk({"role": "assistant", "content": "", "refusal": None})
COUNT = chunk(choices=[], usage=USAGE)
HELLO = START + chunk({"content": "Hé"}) + chunk({"content": "llo\u2028 🙂"})
ANSWER = HELLO + chunk(finish="stop") + COUNT + DONE
BEGAN = Began("chatcmpl-1", LUNA)
FRAMES = [BEGAN, Text("Hé"), Text("llo\u2028 🙂"), Ended("stop", COUNTED)]


def piece(index: Any = 0, id_: str | None = None, name: str | None = None, args: Any = "") -> bytes:
    function: dict[str, Any] = {"arguments": args} | ({"name": name} if name else {})
    call: dict[str, Any] = {"index": index, "function": function} | ({"id": id_} if id_ else {})
    return chunk({"tool_calls": [call]})


CALLS = (
    START
    + piece(0, "call_1", "look")
    + piece(0, args='{"q":')
    + piece(1, "call_2", "find", "{}")
    + piece(0, args='"x"}')
    + chunk(finish="tool_calls")
    + COUNT
    + DONE
)


# What is asked


def test_a_plain_question_is_no_more_than_that() -> None:
    assert body_of("hello", system_prompt="Be brief.") == {
        "model": LUNA,
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "hello"},
        ],
        "max_completion_tokens": 1000,
        "safety_identifier": "opaque",
    }


def test_a_stream_tells_its_usage() -> None:
    body = body_of(stream=True)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert not {"stream", "stream_options"} & body_of().keys()


def test_images_go_by_their_bytes_or_by_their_url() -> None:
    parts: list[ContentPart] = [
        TextPart("what is this?"),
        ImagePart("image/png", b"\x89P"),
        ImagePart(url="https://a.example/b.png", detail="low"),
    ]
    (message,) = body_of(Said(Role.USER, "what is this?", parts=parts))["messages"]
    assert message["content"] == [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVA="}},
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": "low"}},
    ]


def test_a_round_of_tools() -> None:
    said = [
        Said(Role.USER, "look it up"),
        Said(Role.ASSISTANT, "", tool_calls=[ToolCall("call_1", "look", '{"q":"x"}')]),
        Said(Role.TOOL, "", tool_results=[ToolResult("call_1", "42"), ToolResult("call_2", "43")]),
        Said(Role.SYSTEM, "Now hurry."),
    ]
    body = body_of(*said, model=TERRA, tools=[TOOL, Tool("bare", strict=True)])
    function = {"name": "look", "arguments": '{"q":"x"}'}
    assert body["messages"] == [
        {"role": "user", "content": "look it up"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        {"role": "tool", "tool_call_id": "call_2", "content": "43"},
        {"role": "developer", "content": "Now hurry."},
    ]
    described = {"name": "look", "description": "Looks it up.", "parameters": SCHEMA}
    assert body["tools"] == [
        {"type": "function", "function": described},
        {"type": "function", "function": {"name": "bare", "strict": True}},
    ]
    assert not {"tool_choice", "parallel_tool_calls"} & body.keys()


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (ToolChoice("auto"), "auto"),
        (ToolChoice("none"), "none"),
        (ToolChoice("required"), "required"),
        (ToolChoice("named", "look"), {"type": "function", "function": {"name": "look"}}),
    ],
)
def test_which_tool_must_be_called(choice: ToolChoice, sent: Any) -> None:
    wishes: dict[str, Any] = {"tool_choice": choice, "parallel_tool_calls": False}
    body = body_of(model=TERRA, tools=[TOOL], **wishes)
    assert (body["tool_choice"], body["parallel_tool_calls"]) == (sent, False)
    # Without tools the vendor refuses both.
    assert not {"tool_choice", "parallel_tool_calls"} & body_of(**wishes).keys()


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (AnswerFormat(), {"type": "json_object"}),
        (
            AnswerFormat(SCHEMA),
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
        ),
        (
            AnswerFormat(SCHEMA, "city", strict=True),
            {
                "type": "json_schema",
                "json_schema": {"name": "city", "schema": SCHEMA, "strict": True},
            },
        ),
    ],
)
def test_an_answer_in_json(wanted: AnswerFormat, sent: Any) -> None:
    assert body_of(answer_format=wanted)["response_format"] == sent


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("gpt-6-luna", None, False),
        ("gpt-6-luna", "low", False),
        ("gpt-6-luna", "none", True),
        ("gpt-6.1-terra", "none", True),
        ("gpt-6.1-sol", "none", False),
        ("gpt-6-astra", "none", False),
        ("gpt-6.2-sol", "none", False),
        ("gpt-6.2-astra", None, False),
        ("gpt-5.6-terra", "none", False),
        ("gpt-5", None, False),
        ("o3", None, False),
        ("gpt-4o", None, True),
        ("gpt-4.1-mini", None, True),
        ("gpt-7", None, False),
    ],
)
def test_a_temperature_goes_to_models_that_take_one(model: str, effort: Any, sent: bool) -> None:
    asked: dict[str, Any] = {"temperature": 0.2, "top_p": 0.9}
    body = body_of(model=model, effort=effort, **asked)
    assert {name: body[name] for name in asked if name in body} == (asked if sent else {})


def test_no_default_of_ours_is_ever_sent() -> None:
    assert not {"temperature", "top_p"} & body_of(model=OLD).keys()
    assert body_of(model=OLD, temperature=0.0)["temperature"] == 0


@pytest.mark.parametrize(
    ("model", "wished", "sent"),
    [
        ("gpt-6-luna", "none", "none"),
        ("gpt-6-luna", "minimal", "none"),
        ("gpt-6-luna", "max", "xhigh"),
        ("gpt-6.1-sol", "none", "low"),
        ("gpt-6-astra", "none", "low"),
        ("gpt-6.2-sol", "minimal", "low"),
        ("gpt-6.2-sol", "xhigh", "xhigh"),
        ("gpt-5", "none", "minimal"),
        ("o3", "xhigh", "high"),
        ("gpt-4o", "high", None),
        ("gpt-6-luna", None, None),
    ],
)
def test_an_effort_is_the_nearest_that_the_model_has(model: str, wished: Any, sent: Any) -> None:
    assert body_of(model=model, effort=wished).get("reasoning_effort") == sent


def test_stop_sequences_go_to_models_that_take_them() -> None:
    assert body_of(model=OLD, stop=["a", "b"])["stop"] == ["a", "b"]
    assert "stop" not in body_of(stop=["a"])


def test_where_the_model_takes_no_stop_sequence_the_reader_does() -> None:
    frames = streamed(ANSWER, stop=["lo"])
    assert told(frames)[0] == "Hél"
    assert the_end(frames) == Ended("stop", COUNTED, why="stop_sequence")
    assert told(streamed(ANSWER, model=OLD, stop=["lo"]))[0] == "Héllo\u2028 🙂"


# What is answered


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_however_the_bytes_come_the_frames_are_the_same(places: list[int]) -> None:
    assert read(reader(), cut_at(ANSWER, places)) == (FRAMES, None)
    assert read(reader(), cut_at(CALLS, places)) == (streamed(CALLS), None)


@pytest.mark.parametrize("data", [ANSWER, CALLS])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_byte_by_byte(data: bytes, ending: bytes) -> None:
    data = data.replace(b"\n", ending)
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert read(reader(), pieces) == (streamed(data), None)


def test_what_means_nothing_is_passed_over() -> None:
    comment = b": a comment\n\n"
    odd = chunk({"content": "Hé", "obfuscation": "x7Qp", "novelty": {"a": 1}}, novelty=[1])
    data = comment + START + comment + odd + comment
    data += chunk({"content": "llo\u2028 🙂"}) + chunk(finish="stop") + comment + COUNT
    assert streamed(data + comment + DONE) == FRAMES


def test_the_mark_at_the_end_may_be_missing() -> None:
    assert streamed(ANSWER.removesuffix(DONE)) == FRAMES
    assert streamed(ANSWER.removesuffix(DONE).rstrip()) == FRAMES


def test_without_a_count_there_is_no_usage() -> None:
    assert the_end(streamed(HELLO + chunk(finish="stop") + DONE)).usage is None


def test_every_detail_of_a_count_may_be_missing() -> None:
    bare = {"prompt_tokens": 3, "completion_tokens": None, "prompt_tokens_details": None}
    data = HELLO + chunk(finish="stop") + chunk(choices=[], usage=bare)
    assert the_end(streamed(data)).usage == Usage(3, service_tier="default")


@pytest.mark.parametrize(
    ("word", "reason", "why"),
    [
        ("stop", "stop", None),
        ("length", "length", None),
        ("tool_calls", "tool_calls", None),
        ("function_call", "tool_calls", None),
        ("content_filter", "content_filter", None),
        ("something_new", "other", "something_new"),
    ],
)
def test_why_it_ended(word: str, reason: str, why: str | None) -> None:
    ended = the_end(streamed(HELLO + chunk(finish=word)))
    assert (ended.reason, ended.why) == (reason, why)


def test_a_refusal_of_the_model_is_its_answer() -> None:
    data = START + chunk({"refusal": "I can't "}) + chunk({"refusal": "do that."})
    frames = streamed(data + chunk(finish="stop"))
    assert told(frames)[0] == "I can't do that."
    assert the_end(frames) == Ended("stop", None, why="refusal")
    filtered = the_end(streamed(data + chunk(finish="content_filter")))
    assert filtered.reason == "content_filter"


def test_tool_calls_come_in_pieces_by_their_number() -> None:
    frames = streamed(CALLS)
    assert [frame for frame in frames if isinstance(frame, ToolCallPiece)] == [
        ToolCallPiece(0, "call_1", "look"),
        ToolCallPiece(0, arguments='{"q":'),
        ToolCallPiece(1, "call_2", "find", "{}"),
        ToolCallPiece(0, arguments='"x"}'),
    ]
    assert the_end(frames) == Ended("tool_calls", COUNTED)


def test_a_tool_that_was_demanded_by_name_ends_in_a_stop() -> None:
    data = START + piece(0, "call_1", "look", "{}") + chunk(finish="stop")
    assert the_end(streamed(data)).reason == "tool_calls"


@pytest.mark.parametrize(
    "data",
    [
        piece(0, "a", "look", "{}") + piece(0, "b", "find", "{}"),
        piece(None, "a", "look", "{}") + piece(None, "b", "find", "{}"),
        piece(0, "a", "look", "{") + piece(0, "a", "look", "}") + piece(1, "b", "find", {}),
    ],
)
def test_hosts_that_number_or_name_calls_their_own_way(data: bytes) -> None:
    frames = streamed(START + data + chunk(finish="tool_calls"))
    assert told(frames)[2] == [("look", "{}"), ("find", "{}")]


def test_of_several_choices_all_text_counts() -> None:
    choices = [
        {"index": i, "delta": {"content": f"from {i}. "}, "finish_reason": "stop"} for i in (0, 1)
    ]
    frames = whole(WIRE.raw_reader("/v1/chat/completions", streamed=True), chunk(choices=choices))
    assert told(frames)[0] == "from 0. from 1. "


@pytest.mark.parametrize("data", [b"", START, HELLO, HELLO + DONE, CALLS.partition(b"call_2")[0]])
def test_a_stream_that_ends_too_early_was_cut(data: bytes) -> None:
    _, failure = read(reader(), [data])
    assert isinstance(failure, VendorFailed)
    assert failure.billed


ERRORS = [
    ("server_error", "server_error", VendorOverloaded),
    ("rate_limit_exceeded", "requests", VendorRateLimited),
    ("slow_down", "requests", VendorRateLimited),
    ("insufficient_quota", "insufficient_quota", VendorQuotaExhausted),
    ("server_is_overloaded", "service_unavailable_error", VendorOverloaded),
    (None, "service_unavailable_error", VendorOverloaded),
    ("context_length_exceeded", "invalid_request_error", PromptTooLong),
    ("invalid_prompt", "invalid_request_error", VendorRejectedRequest),
    ("invalid_image_url", "invalid_request_error", VendorRejectedRequest),
    ("unheard_of", "unheard_of", VendorFailed),
]


@pytest.mark.parametrize(("code", "type_", "kind"), ERRORS)
def test_an_error_in_a_stream_is_free_only_before_anything_was_said(
    code: str | None, type_: str, kind: type[Exception]
) -> None:
    error = {"message": "sk-secret", "type": type_, "param": None, "code": code}
    data = b"data: " + orjson.dumps({"error": error}) + b"\n\n"
    for before in (b"", START):
        frames, failure = read(reader(), [before + data])
        assert type(failure) is kind
        assert "sk-secret" not in str(failure)
        assert frames == ([BEGAN] if before else [])
    frames, failure = read(reader(), [HELLO + data])
    assert type(failure) is VendorFailed
    assert told(frames)[0] == "Héllo\u2028 🙂"


@given(st.lists(st.integers(0, 10_000), max_size=8))
def test_what_came_before_an_error_is_never_lost(places: list[int]) -> None:
    data = HELLO + b'data: {"error": "gone"}\n\n' + chunk({"content": "never"})
    frames, failure = read(reader(), cut_at(data, places))
    assert frames == FRAMES[:3]
    assert type(failure) is VendorFailed


def completion(message: Any, finish: str = "stop", **parts: Any) -> bytes:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant"} | message}
    body = {"id": "chatcmpl-1", "model": LUNA, "service_tier": "default", "choices": [choice]}
    return orjson.dumps({**body, "usage": USAGE, **parts})


def test_a_whole_answer() -> None:
    data = completion({"content": "Hi", "refusal": None, "tool_calls": None})
    assert whole(reader(streamed=False), data) == [BEGAN, Text("Hi"), Ended("stop", COUNTED)]


def test_a_whole_answer_with_calls() -> None:
    function = {"name": "look", "arguments": "{}"}
    calls = [{"id": f"call_{i}", "type": "function", "function": function} for i in (1, 2)]
    data = completion({"content": None, "tool_calls": calls}, "tool_calls", usage=None)
    assert whole(reader(streamed=False), data) == [
        BEGAN,
        ToolCallPiece(0, "call_1", "look", "{}"),
        ToolCallPiece(1, "call_2", "look", "{}"),
        Ended("tool_calls", None),
    ]


def test_a_whole_answer_of_a_reasoning_host() -> None:
    data = completion({"content": "Hi", "reasoning_content": "Hm."})
    frames = whole(reader(streamed=False), data)
    assert frames[1:3] == [Thinking("Hm."), Text("Hi")]


# What is refused


REFUSED = {
    "no_key": NoUsableKey,
    "invalid_key": NoUsableKey,
    "missing_scope": NoUsableKey,
    "missing_scope_403": NoUsableKey,
    "not_member": NoUsableKey,
    "ip_not_authorized": NoUsableKey,
    "permission": NoUsableKey,
    "region": VendorRefused,
    "bad_request": VendorRejectedRequest,
    "conflict": VendorRejectedRequest,
    "too_large": VendorRejectedRequest,
    "context_length": PromptTooLong,
    "model_not_found": ModelUnavailable,
    "rate_limit": VendorRateLimited,
    "slow_down": VendorRateLimited,
    "quota": VendorQuotaExhausted,
    "credit_exhausted": VendorQuotaExhausted,
    "organization_spend_limit": VendorQuotaExhausted,
    "project_spend_limit": VendorQuotaExhausted,
    "organization_usage_limit": VendorQuotaExhausted,
    "server_error": VendorOverloaded,
    "bad_gateway": VendorOverloaded,
    "gateway_timeout": VendorOverloaded,
    "overloaded": VendorOverloaded,
    "unavailable": VendorOverloaded,
}


@pytest.mark.parametrize("name", sorted(REFUSALS))
def test_each_refusal_has_its_meaning(name: str) -> None:
    refusal = REFUSALS[name]
    failure = WIRE.refusal(refusal.status, refusal.body, refusal.headers)
    assert type(failure) is REFUSED[name]
    assert failure.facts["provider"] == "openai"


def test_every_refusal_of_the_simulator_is_covered() -> None:
    assert REFUSED.keys() == REFUSALS.keys()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_key", "key_rejected"),
        ("invalid_key", "key_rejected"),
        ("missing_scope", "key_restricted"),
        ("missing_scope_403", "key_restricted"),
        ("not_member", "key_restricted"),
        ("ip_not_authorized", "key_restricted"),
        ("permission", "key_restricted"),
    ],
)
def test_a_good_key_is_told_from_a_bad_one(name: str, reason: str) -> None:
    refusal = REFUSALS[name]
    assert WIRE.refusal(refusal.status, refusal.body, {}).facts["reason"] == reason


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_the_code_counts_more_than_the_status(status: int) -> None:
    for code, kind in (
        ("insufficient_quota", VendorQuotaExhausted),
        ("context_length_exceeded", PromptTooLong),
        ("rate_limit_exceeded", VendorRateLimited),
    ):
        assert type(WIRE.refusal(status, {"error": {"code": code}}, {})) is kind
        assert type(WIRE.refusal(status, {"error": {"type": code}}, {})) is kind


def test_how_long_to_wait_is_told_where_waiting_helps() -> None:
    headers = {"retry-after-ms": "1500", "retry-after": "9"}
    pace = WIRE.refusal(429, {"error": {"code": "slow_down"}}, headers)
    assert isinstance(pace, VendorRateLimited)
    assert pace.retry_after == timedelta(milliseconds=1500)
    money = WIRE.refusal(429, {"error": {"code": "insufficient_quota"}}, headers)
    assert isinstance(money, VendorQuotaExhausted)
    assert money.retry_after is None


@pytest.mark.parametrize(
    ("told", "again"), [("true", True), ("FALSE", False), ("perhaps", None), (None, None)]
)
def test_what_the_vendor_says_of_another_try(told: str | None, again: bool | None) -> None:
    headers = {"x-should-retry": told} if told else {}
    failure = WIRE.refusal(429, {}, headers)
    assert isinstance(failure, VendorRefused)
    assert failure.again is again
    money = WIRE.refusal(429, {"error": {"type": "insufficient_quota"}}, headers)
    assert isinstance(money, VendorRefused)
    assert money.again is False
