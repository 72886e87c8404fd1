"""OpenAI's Responses: when they are asked instead, with what, and how their answers are read."""

from __future__ import annotations

from collections.abc import Sequence
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
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from services.chat.domain.content import Utterance as Said
from services.chat.domain.errors import PromptTooLong, VendorRejectedRequest
from services.chat.domain.frames import Began, Ended, Frame, Text, Thinking, Thoughts, ToolCallPiece
from services.chat.domain.turn import Prompt
from services.chat.domain.usage import Usage
from services.chat.providers.openai import OpenAI
from shared.vendors.failures import (
    VendorFailed,
    VendorOverloaded,
    VendorQuotaExhausted,
    VendorRateLimited,
)
from tests.support.wires import a_prompt, cut_at, read, the_end, told, whole

WIRE = OpenAI()
PATH, CHAT_PATH = "/v1/responses", "/v1/chat/completions"
LUNA, SOL, TERRA = "gpt-6-luna", "gpt-6.1-sol", "gpt-6.1-terra"
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
TOOL = Tool("look", "Looks it up.", SCHEMA)
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
THOUGHT = Thought("openai", REASONING)
PHASE = Thought("openai", {"type": "message", "phase": "commentary"})
CALL = ToolCall("call_1", "look", '{"q":"x"}')
RESULT = Said(Role.TOOL, "", tool_results=[ToolResult("call_1", "42")])
USAGE = {
    "input_tokens": 1200,
    "input_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 7},
    "output_tokens": 350,
    "output_tokens_details": {"reasoning_tokens": 200},
    "total_tokens": 1550,
}
COUNTED = Usage(1200, 1000, 7, 350, 200, service_tier="default")
BEGAN = Began("resp_1", SOL)


def with_tools(*said: Said | str, model: str = SOL, **parts: Any) -> Prompt:
    return a_prompt("openai", *said, model=model, **{"tools": [TOOL], **parts})


def body_of(*said: Said | str, stream: bool = False, **parts: Any) -> Any:
    request = WIRE.request(with_tools(*said, **parts), stream=stream)
    assert request.path == PATH
    return request.body


# When


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gpt-6-astra", PATH),
        ("gpt-6.1-sol", PATH),
        ("gpt-6-sol", PATH),
        ("gpt-6-luna", PATH),
        ("gpt-6.1-terra", CHAT_PATH),
        ("gpt-6.2-sol", CHAT_PATH),
        ("gpt-6.2-astra", CHAT_PATH),
        ("gpt-5.6-terra", CHAT_PATH),
        ("gpt-4o", CHAT_PATH),
        ("gpt-7", PATH),
    ],
)
def test_tools_go_where_the_model_takes_them(model: str, path: str) -> None:
    assert WIRE.request(with_tools(model=model), stream=True).path == path
    assert WIRE.request(with_tools(model=model, tools=()), stream=True).path == CHAT_PATH


def test_a_history_of_calls_goes_there_too() -> None:
    said = [Said(Role.USER, "look"), Said(Role.ASSISTANT, "", tool_calls=[CALL]), RESULT]
    assert WIRE.request(with_tools(*said, tools=()), stream=True).path == PATH


def test_reasoning_goes_back_to_where_it_came_from() -> None:
    answer = Said(Role.ASSISTANT, "", tool_calls=[CALL], thoughts=[THOUGHT])
    said = [Said(Role.USER, "look"), answer, RESULT]
    assert WIRE.request(with_tools(*said, model=TERRA), stream=True).path == PATH
    # A model that does not reason could do nothing with it.
    assert WIRE.request(with_tools(*said, model="gpt-4o"), stream=True).path == CHAT_PATH
    others = Said(Role.ASSISTANT, "", tool_calls=[CALL], thoughts=[Thought("anthropic", {})])
    prompt = with_tools(said[0], others, RESULT, model=TERRA)
    assert WIRE.request(prompt, stream=True).path == CHAT_PATH


# What is asked


def test_nothing_is_stored_and_reasoning_comes_sealed() -> None:
    assert body_of("look it up", system_prompt="Be brief.", stream=True) == {
        "model": SOL,
        "input": [{"role": "user", "content": "look it up"}],
        "instructions": "Be brief.",
        "max_output_tokens": 1000,
        "safety_identifier": "opaque",
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "tools": [
            {
                "type": "function",
                "name": "look",
                "description": "Looks it up.",
                "parameters": SCHEMA,
                "strict": False,
            }
        ],
        "stream": True,
    }


def test_a_round_of_tools_with_the_reasoning_that_led_to_it() -> None:
    earlier = Said(Role.ASSISTANT, "earlier", thoughts=[Thought("openai", {"type": "reasoning"})])
    answer = Said(
        Role.ASSISTANT,
        "One moment.",
        tool_calls=[CALL],
        thoughts=[THOUGHT, PHASE, Thought("gemini", {"a": 1})],
    )
    question = Said(Role.USER, "look it up")
    body = body_of(
        Said(Role.USER, "first"), earlier, Said(Role.SYSTEM, "now"), question, answer, RESULT
    )
    assert body["input"] == [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "earlier"},
        {"role": "developer", "content": "now"},
        {"role": "user", "content": "look it up"},
        REASONING,
        {"role": "assistant", "content": "One moment.", "phase": "commentary"},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"q":"x"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    ]


def test_reasoning_that_only_its_id_stands_for_is_not_sent_back() -> None:
    named = Thought("openai", {"id": "rs_1", "type": "reasoning", "summary": []})
    answer = Said(Role.ASSISTANT, "", tool_calls=[CALL], thoughts=[named])
    kinds = [item.get("type") for item in body_of("look it up", answer, RESULT)["input"]]
    assert kinds == [None, "function_call", "function_call_output"]


def test_images_go_by_their_bytes_or_by_their_url() -> None:
    parts: list[ContentPart] = [
        TextPart("what is this?"),
        ImagePart("image/png", b"\x89P"),
        ImagePart(url="https://a.example/b.png", detail="high"),
    ]
    (item,) = body_of(Said(Role.USER, "what is this?", parts=parts))["input"]
    assert item["content"] == [
        {"type": "input_text", "text": "what is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVA=", "detail": "auto"},
        {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "high"},
    ]


def test_wishes_have_other_names_here() -> None:
    body = body_of(
        model=LUNA,
        tools=[Tool("bare", strict=True)],
        tool_choice=ToolChoice("named", "bare"),
        parallel_tool_calls=False,
        effort="high",
        temperature=0.2,
        stop=["x"],
        answer_format=AnswerFormat(SCHEMA, "city", strict=True),
    )
    anything = {"type": "object", "properties": {}}
    assert body["tools"] == [
        {"type": "function", "name": "bare", "parameters": anything, "strict": True}
    ]
    assert body["tool_choice"] == {"type": "function", "name": "bare"}
    assert body["parallel_tool_calls"] is False
    assert body["reasoning"] == {"effort": "high"}
    schema = {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}
    assert body["text"] == {"format": schema}
    assert not {"stop", "temperature", "response_format", "reasoning_effort"} & body.keys()


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        (LUNA, "none", True),
        (LUNA, "low", False),
        (SOL, "none", False),
        ("gpt-6-astra", None, False),
    ],
)
def test_a_temperature_goes_only_to_a_model_that_does_not_reason(
    model: str, effort: Any, sent: bool
) -> None:
    body = body_of(model=model, effort=effort, temperature=0.2, top_p=0.5)
    assert ({"temperature", "top_p"} <= body.keys()) is sent
    assert ("temperature" in body) is sent


def test_json_without_a_schema() -> None:
    assert body_of(answer_format=AnswerFormat())["text"] == {"format": {"type": "json_object"}}
    assert body_of(tool_choice=ToolChoice("required"))["tool_choice"] == "required"


# What is answered


def event(type_: str, **fields: Any) -> bytes:
    data = orjson.dumps({"type": type_, **fields, "sequence_number": 1})
    return b"event: " + type_.encode() + b"\ndata: " + data + b"\n\n"


def response(status: str = "in_progress", **parts: Any) -> dict[str, Any]:
    head = {"id": "resp_1", "object": "response", "model": SOL, "service_tier": "default"}
    return {**head, "status": status, "error": None, "output": [], "usage": None, **parts}


def terminal(status: str = "completed", **parts: Any) -> bytes:
    return event(f"response.{status}", response=response(status, **{"usage": USAGE, **parts}))


def message(text: str = "Héllo\u2028 🙂", **parts: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "content": content, **parts}


def function_call(number: int = 1, arguments: str = '{"q":"x"}') -> dict[str, Any]:
    names = {"id": f"fc_{number}", "type": "function_call", "call_id": f"call_{number}"}
    return {**names, "name": "look", "arguments": arguments}


def text(delta: str) -> bytes:
    return event("response.output_text.delta", output_index=1, content_index=0, delta=delta)


START = event("response.created", response=response())
START += event("response.in_progress", response=response())
REASONED = event("response.output_item.added", output_index=0, item={"type": "reasoning"})
REASONED += event("response.reasoning_summary_text.delta", output_index=0, delta="Hm.")
REASONED += event("response.output_item.done", output_index=0, item=REASONING)
HELLO = START + REASONED
HELLO += event("response.output_item.added", output_index=1, item=message(""))
HELLO += event("response.content_part.added", output_index=1, part={"type": "output_text"})
HELLO += text("Hé") + text("llo\u2028 🙂")
CLOSED = event("response.output_text.done", output_index=1, text="Héllo\u2028 🙂")
CLOSED += event("response.content_part.done", output_index=1, part={})
CLOSED += event("response.output_item.done", output_index=1, item=message(phase="commentary"))
ANSWER = HELLO + CLOSED + terminal()
SAID: list[Frame] = [BEGAN, Thinking("Hm."), Text("Hé"), Text("llo\u2028 🙂")]
FRAMES = [*SAID, Thoughts((THOUGHT, PHASE)), Ended("stop", COUNTED)]


def calling(number: int, *deltas: str) -> bytes:
    arguments = "".join(deltas)
    place = {"output_index": number, "item_id": f"fc_{number}"}
    kind = "response.function_call_arguments"
    data = event("response.output_item.added", **place, item=function_call(number, ""))
    for delta in deltas:
        data += event(f"{kind}.delta", **place, delta=delta)
    data += event(f"{kind}.done", **place, name="look", arguments=arguments)
    return data + event("response.output_item.done", **place, item=function_call(number, arguments))


CALLS = START + REASONED + calling(1, '{"q":', '"x"}') + calling(2, "{}") + terminal()


def reader(*, streamed: bool = True, **parts: Any) -> Any:
    return WIRE.request(with_tools(**parts), stream=streamed).reader()


def streamed(data: bytes, **parts: Any) -> list[Frame]:
    return whole(reader(**parts), data)


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_however_the_bytes_come_the_frames_are_the_same(places: list[int]) -> None:
    assert read(reader(), cut_at(ANSWER, places)) == (FRAMES, None)
    assert read(reader(), cut_at(CALLS, places)) == (streamed(CALLS), None)


def test_reasoning_that_no_database_could_hold_is_mended() -> None:
    item = {**REASONING, "summary": [{"type": "summary_text", "text": "a\0b"}]}
    data = START + event("response.output_item.done", output_index=0, item=item) + terminal()
    (thoughts,) = [frame for frame in streamed(data) if isinstance(frame, Thoughts)]
    assert thoughts.blocks[0].block["summary"] == [{"type": "summary_text", "text": "a\ufffdb"}]


@pytest.mark.parametrize("data", [ANSWER, CALLS])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_byte_by_byte(data: bytes, ending: bytes) -> None:
    data = data.replace(b"\n", ending)
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert read(reader(), pieces) == (streamed(data), None)


def test_a_clients_own_request_is_read_alike() -> None:
    assert whole(WIRE.raw_reader(PATH, streamed=True), ANSWER) == FRAMES


def test_what_means_nothing_is_passed_over() -> None:
    odd = b": a comment\n\n" + event("response.novelty", novelty={"x": 1})
    odd += event("response.output_text.annotation.added", annotation={})
    odd += event("response.function_call_arguments.delta", output_index=77, delta="of no call")
    data = odd + START + odd + HELLO.removeprefix(START) + odd + CLOSED + terminal() + odd
    assert streamed(data + text("late") + b"data: [DONE]\n\n") == FRAMES


def test_calls_come_in_pieces_and_never_twice() -> None:
    frames = streamed(CALLS)
    assert frames == [
        BEGAN,
        Thinking("Hm."),
        ToolCallPiece(0, "call_1", "look"),
        ToolCallPiece(0, arguments='{"q":'),
        ToolCallPiece(0, arguments='"x"}'),
        ToolCallPiece(1, "call_2", "look"),
        ToolCallPiece(1, arguments="{}"),
        Thoughts((THOUGHT,)),
        Ended("tool_calls", COUNTED),
    ]


@pytest.mark.parametrize(
    "data",
    [
        event("response.output_item.added", output_index=0, item=function_call())
        + event("response.output_item.done", output_index=0, item=function_call()),
        event("response.output_item.added", output_index=0, item=function_call(arguments=""))
        + event("response.function_call_arguments.done", output_index=0, arguments='{"q":"x"}'),
        event("response.output_item.done", output_index=0, item=function_call()),
    ],
)
def test_arguments_that_do_not_come_in_pieces_come_whole(data: bytes) -> None:
    frames = streamed(START + data + terminal())
    assert told(frames)[2] == [("look", '{"q":"x"}')]
    assert the_end(frames).reason == "tool_calls"


def test_what_the_model_answered_can_be_given_back() -> None:
    """The next round of the same tools: answered, stored by us, asked again."""
    frames = streamed(CALLS)
    (thoughts,) = [frame.blocks for frame in frames if isinstance(frame, Thoughts)]
    calls = [ToolCall(f"call_{i}", "look", a) for i, a in ((1, '{"q":"x"}'), (2, "{}"))]
    results = [ToolResult("call_1", "42"), ToolResult("call_2", "43")]
    answer = Said(Role.ASSISTANT, "", tool_calls=calls, thoughts=thoughts)
    said = [Said(Role.USER, "look"), answer, Said(Role.TOOL, "", tool_results=results)]
    types = [item.get("type", item.get("role")) for item in body_of(*said)["input"]]
    assert types == [
        "user",
        "reasoning",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
    ]
    assert body_of(*said)["input"][1] == REASONING


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("max_output_tokens", "length"),
        ("content_filter", "content_filter"),
        ("max_messages", "other"),
        ("steered", "other"),
        (None, "other"),
    ],
)
def test_why_it_is_incomplete(why: str | None, reason: str) -> None:
    details = {"reason": why} if why else None
    ended = the_end(streamed(HELLO + terminal("incomplete", incomplete_details=details)))
    assert (ended.reason, ended.why, ended.usage) == (reason, why, COUNTED)


def test_a_refusal_of_the_model_is_its_answer() -> None:
    said = b"".join(
        event("response.refusal.delta", output_index=0, delta=d) for d in ("I can't ", "do that.")
    )
    frames = streamed(START + said + terminal())
    assert told(frames)[0] == "I can't do that."
    assert the_end(frames) == Ended("stop", COUNTED, why="refusal")


def test_without_a_count_there_is_no_usage() -> None:
    assert the_end(streamed(HELLO + terminal(usage=None))).usage is None


@pytest.mark.parametrize("data", [b"", START, HELLO, HELLO + CLOSED, CALLS.rpartition(b"event")[0]])
def test_a_stream_that_ends_too_early_was_cut(data: bytes) -> None:
    _, failure = read(reader(), [data])
    assert isinstance(failure, VendorFailed)
    assert failure.billed


ERRORS = [
    ("server_error", VendorOverloaded),
    ("rate_limit_exceeded", VendorRateLimited),
    ("insufficient_quota", VendorQuotaExhausted),
    ("server_is_overloaded", VendorOverloaded),
    ("invalid_prompt", VendorRejectedRequest),
    ("image_too_large", VendorRejectedRequest),
    ("context_length_exceeded", PromptTooLong),
    ("unheard_of", VendorFailed),
]


def shapes(code: str) -> Sequence[bytes]:
    error = {"code": code, "message": "sk-secret", "param": None}
    failed = response("failed", error={"code": code, "message": "sk-secret"})
    return [
        event("error", **error),
        event("error", error=error),
        event("response.failed", response=failed),
    ]


@pytest.mark.parametrize(("code", "kind"), ERRORS)
def test_a_failure_is_free_only_before_anything_was_said(code: str, kind: type[Exception]) -> None:
    for data in shapes(code):
        frames, failure = read(reader(), [START + data])
        assert (frames, type(failure)) == ([BEGAN], kind)
        assert "sk-secret" not in str(failure)
        frames, failure = read(reader(), [HELLO + data])
        assert (frames, type(failure)) == (SAID, VendorFailed)


def test_a_failure_may_tell_what_it_charges() -> None:
    error = {"code": "server_error", "message": "…"}
    frames, failure = read(reader(), [HELLO + terminal("failed", error=error)])
    assert isinstance(failure, VendorFailed)
    assert frames == [*SAID, Ended("other", COUNTED, why="failed")]
    # It may have thought in silence.
    frames, failure = read(reader(), [START + terminal("failed", error=error)])
    assert (frames, type(failure)) == ([BEGAN], VendorFailed)


def test_stop_sequences_are_ours_to_find() -> None:
    frames = streamed(ANSWER, stop=["lo"])
    assert told(frames)[0] == "Hél"
    assert frames[-1] == Ended("stop", COUNTED, why="stop_sequence")


def test_a_whole_answer() -> None:
    output = [REASONING, message("Hi", phase="final"), function_call(1), function_call(2, "{}")]
    data = orjson.dumps(response("completed", output=output, usage=USAGE))
    phase = Thought("openai", {"type": "message", "phase": "final"})
    assert whole(reader(streamed=False), data) == [
        BEGAN,
        Text("Hi"),
        ToolCallPiece(0, "call_1", "look", '{"q":"x"}'),
        ToolCallPiece(1, "call_2", "look", "{}"),
        Thoughts((THOUGHT, phase)),
        Ended("tool_calls", COUNTED),
    ]


def test_a_whole_refusal() -> None:
    part = {"type": "refusal", "refusal": "I can't."}
    output = [{"type": "message", "content": [part, {"type": "novelty", "text": "x"}]}]
    frames = whole(reader(streamed=False), orjson.dumps(response("completed", output=output)))
    assert frames == [BEGAN, Text("I can't."), Ended("stop", None, why="refusal")]


@pytest.mark.parametrize(("code", "kind"), ERRORS)
def test_a_whole_failure(code: str, kind: type[Exception]) -> None:
    data = orjson.dumps(response("failed", error={"code": code, "message": "…"}))
    assert type(read(reader(streamed=False), [data])[1]) is kind
