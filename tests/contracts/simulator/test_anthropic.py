"""The official Anthropic SDK: models, messages and token counts, in both API versions."""

from typing import Any, Final

import pytest
from anthropic import (
    Anthropic,
    APIStatusError,
    AsyncAnthropic,
    BadRequestError,
    NotFoundError,
)
from anthropic.types import MessageParam, ToolParam

from tests.support.simulator.process import RunningSimulator

HAIKU: Final = "claude-haiku-5-5"
CITING: Final = {"type": "text", "text": "hi", "citations": [{}]}
OLD: Final = {"anthropic-version": "2023-06-01"}
TOOL: Final[ToolParam] = {
    "name": "weather",
    "description": "Tells it.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def say(text: str) -> list[MessageParam]:
    return [{"role": "user", "content": text}]


def test_models_are_paged_and_know_what_they_can(anthropic: Anthropic) -> None:
    models = {model.id: model for model in anthropic.models.list(limit=2)}
    assert len(models) > 4
    haiku, old = models[HAIKU], models["claude-sonnet-4-5"]
    assert (haiku.lifecycle, haiku.line) == ("active", "haiku")
    assert haiku.capabilities
    assert haiku.capabilities.image_input.supported
    assert old.lifecycle == "deprecated"
    assert old.retires_at
    page = anthropic.models.list(limit=1, after_id=HAIKU)
    assert [model.id for model in page.data] == ["claude-sonnet-5-5"]
    active = anthropic.models.list(extra_query={"lifecycle[]": "active"}).data
    assert {model.lifecycle for model in active} == {"active"}
    assert anthropic.models.retrieve("claude-opus-4-1").lifecycle == "retired"


def test_a_message_is_said_back(
    anthropic: Anthropic, simulator: RunningSimulator, key: str
) -> None:
    answer: Any = anthropic.messages.create(
        model=HAIKU, max_tokens=50, system="Be brief.", messages=say("good morning")
    )
    assert answer.content[0].text == "You said: good morning"
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (4, 4)
    (served,) = simulator.served(key=key)
    assert served["response_id"] == answer.id
    headers = dict(simulator.last_headers("anthropic")["headers"])
    assert headers["Authorization"] == f"Bearer sha256:{served['key_sha256']}"


async def test_a_message_streams(async_anthropic: AsyncAnthropic) -> None:
    async with async_anthropic.messages.stream(
        model=HAIKU, max_tokens=50, messages=say("good morning [[sim:cached=1000,odd]]")
    ) as stream:
        words = [word async for word in stream.text_stream]
        final = await stream.get_final_message()
    assert words == ["You ", "said: ", "good ", "morning"]
    assert final.stop_reason == "end_turn"
    assert final.usage.cache_read_input_tokens == 1000
    assert (final.usage.input_tokens, final.usage.output_tokens) == (3, 4)


def test_thinking_is_shown_and_counted(anthropic: Anthropic) -> None:
    with anthropic.messages.stream(
        model=HAIKU, max_tokens=50, messages=say("hi [[sim:reasoning=20]]")
    ) as stream:
        final: Any = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[0].signature
    assert final.usage.output_tokens == 20 + 3
    assert final.usage.output_tokens_details.thinking_tokens == 20


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_used_and_its_result_told(anthropic: Anthropic, stream: bool) -> None:
    options: dict[str, Any] = {"model": HAIKU, "max_tokens": 50, "tools": [TOOL]}
    if stream:
        with anthropic.messages.stream(messages=say("weather now"), **options) as events:
            answer: Any = events.get_final_message()
    else:
        answer = anthropic.messages.create(messages=say("weather now"), **options)
    (use,) = answer.content
    assert answer.stop_reason == "tool_use"
    assert (use.name, use.input) == ("weather", {"city": "weather now"})
    told: list[Any] = [
        *say("weather now"),
        {"role": "assistant", "content": [use.to_dict()]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "rain"}],
        },
    ]
    answer = anthropic.messages.create(messages=told, **options)
    assert answer.content[0].text == "The tool said: rain"


def test_what_was_thought_before_a_call_has_to_come_back(
    anthropic: Anthropic, simulator: RunningSimulator, key: str
) -> None:
    asked = say("weather [[sim:reasoning=5]]")
    called: Any = anthropic.messages.create(
        model=HAIKU, max_tokens=50, tools=[TOOL], messages=asked
    )
    thinking, call = called.content
    assert (thinking.type, call.type) == ("thinking", "tool_use")

    def told(*blocks: Any) -> Any:
        result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
        return anthropic.messages.create(
            model=HAIKU,
            max_tokens=50,
            tools=[TOOL],
            messages=[
                *asked,
                {"role": "assistant", "content": list(blocks)},
                {"role": "user", "content": [result]},
            ],
        )

    assert told(thinking, call).content[0].text == "The tool said: rain"
    assert [served["brought_back"] for served in simulator.served(key=key)] == [0, 1]
    with pytest.raises(BadRequestError, match="Expected `thinking`"):
        told(call)
    with pytest.raises(BadRequestError, match="signature"):
        told({"type": "thinking", "thinking": "hm", "signature": "forged"}, call)


def test_caps_stops_and_refusals(anthropic: Anthropic) -> None:
    def end_of(text: str, **extra: Any) -> tuple[Any, Any]:
        options = {"max_tokens": 50, **extra}
        answer = anthropic.messages.create(model=HAIKU, messages=say(text), **options)
        return answer.stop_reason, answer.stop_sequence

    assert end_of("one two three", max_tokens=3) == ("max_tokens", None)
    assert end_of("one END two", stop_sequences=["END"]) == ("stop_sequence", "END")
    assert end_of("one [[sim:refuse]]") == ("refusal", None)
    assert end_of("one [[sim:finish=pause_turn]]") == ("pause_turn", None)


def test_tokens_are_counted(anthropic: Anthropic) -> None:
    parts: list[Any] = [
        {"type": "text", "text": "what is this"},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
        },
    ]
    counted = anthropic.messages.count_tokens(
        model=HAIKU, system="Be brief.", messages=[{"role": "user", "content": parts}]
    )
    assert counted.input_tokens == 2 + 3 + 85


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_the_new_version_takes_no_sampling(anthropic: Anthropic, name: str) -> None:
    with pytest.raises(BadRequestError, match=f"{name}: Extra inputs are not permitted"):
        anthropic.messages.create(
            model="claude-haiku-4-5", max_tokens=9, messages=say("hi"), extra_body={name: 1}
        )


def test_the_old_version_takes_it_where_the_model_does(anthropic: Anthropic) -> None:
    def ask(model: str, temperature: float) -> None:
        anthropic.messages.create(
            model=model,
            max_tokens=9,
            messages=say("hi"),
            extra_headers=OLD,
            extra_body={"temperature": temperature},
        )

    ask("claude-sonnet-4-6", 0.2)
    ask("claude-opus-5-5", 1)
    with pytest.raises(BadRequestError, match="temperature"):
        ask("claude-opus-5-5", 0.2)


@pytest.mark.parametrize(
    "extra",
    [
        {"messages": []},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "So"}]},
        {"messages": [{"role": "tool", "content": "hi"}]},
        {"max_tokens": 200_000, "stream": True},
        {"thinking": {"type": "enabled", "budget_tokens": 10}},
        {"thinking": {"type": "disabled"}},
        {"extra_body": {"stop": ["x"]}},
        {"extra_headers": {"anthropic-version": "2020-01-01"}},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a", "citations": [{}]}]}
            ]
        },
    ],
)
def test_bad_requests_are_refused(anthropic: Anthropic, extra: dict[str, Any]) -> None:
    options = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": say("hi"), **extra}
    with pytest.raises(BadRequestError) as refused:
        anthropic.messages.create(**options)
    body: Any = refused.value.body
    assert body["request_id"] == refused.value.response.headers["request-id"]


_SCHEMA: Final = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    ("beta", "fields"),
    [
        ("context-management-2025-06-27", {"context_management": {"edits": []}}),
        (
            "structured-outputs-2025-11-13",
            {"output_format": {"type": "json_schema", "schema": _SCHEMA}},
        ),
    ],
)
def test_a_beta_brings_its_field(anthropic: Anthropic, beta: str, fields: dict[str, Any]) -> None:
    def ask(**options: Any) -> Any:
        return anthropic.messages.create(
            model=HAIKU, max_tokens=50, messages=say("Rome"), extra_body=fields, **options
        )

    (block,) = ask(extra_headers={"anthropic-beta": f"fast-mode-2026-02-01, {beta}"}).content
    assert ("output_format" in fields) == block.text.startswith("{")
    with pytest.raises(BadRequestError, match="Extra inputs are not permitted"):
        ask()


def test_a_text_without_citations_does_not_name_them(anthropic: Anthropic) -> None:
    answer = anthropic.messages.create(model=HAIKU, max_tokens=50, messages=say("hi"))
    assert answer.content[0].to_dict() == {"type": "text", "text": "You said: hi"}


def test_a_retired_model_is_not_found(anthropic: Anthropic) -> None:
    with pytest.raises(NotFoundError):
        anthropic.messages.create(model="claude-opus-4-1", max_tokens=9, messages=say("hi"))


def test_an_error_in_mid_stream_has_the_status_of_success(anthropic: Anthropic) -> None:
    with (
        pytest.raises(APIStatusError) as failed,
        anthropic.messages.stream(
            model=HAIKU, max_tokens=9, messages=say("one two [[sim:stream_error]]")
        ) as stream,
    ):
        stream.until_done()
    assert failed.value.status_code == 200
    body: Any = failed.value.body
    assert body["error"]["type"] == "overloaded_error"


def test_a_truncated_stream_has_no_stop_reason(anthropic: Anthropic) -> None:
    with anthropic.messages.stream(
        model=HAIKU, max_tokens=9, messages=say("one two [[sim:truncate]]")
    ) as stream:
        final = stream.get_final_message()
    assert final.stop_reason is None
