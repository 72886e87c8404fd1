"""Anthropic's wire: what it is asked."""

from __future__ import annotations

from typing import Any

import pytest

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
from tests.support.anthropic_wire import (
    NEW,
    OLD,
    OLD_SONNET,
    OPUS,
    SONNET,
    WIRE,
    anthropic,
    asked,
)

TOOL = Tool("look", "Looks it up.", {"properties": {"q": {"type": "string"}}})


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
