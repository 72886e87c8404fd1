"""The official OpenAI SDK: models, chat, responses and speech."""

from typing import Any, Final

import pytest
from openai import (
    APIError,
    AsyncOpenAI,
    BadRequestError,
    NotFoundError,
    OpenAI,
)
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from openai.types.responses import FunctionToolParam

from tests.support.simulator.process import RunningSimulator

LUNA: Final = "gpt-6-luna"
PIXEL: Final = "data:image/png;base64,iVBORw0KGgo="
SCHEMA: Final[dict[str, object]] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
CHAT_TOOL: Final[ChatCompletionToolParam] = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it.", "parameters": SCHEMA},
}
TOOL: Final[FunctionToolParam] = {
    "type": "function",
    "name": "weather",
    "parameters": SCHEMA,
    "strict": True,
}


def say(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def test_models_are_listed_with_their_end(openai: OpenAI) -> None:
    ends = {model.id: model.shutdown_date for model in openai.models.list()}
    assert ends[LUNA] is None
    assert ends["gpt-4o"] == "2027-01-14"
    assert openai.models.retrieve("gpt-6-astra").object == "model"
    with pytest.raises(NotFoundError):
        openai.models.retrieve("gpt-nope")


def test_chat_says_it_back(openai: OpenAI, simulator: RunningSimulator, key: str) -> None:
    answer = openai.chat.completions.create(model=LUNA, messages=say("good morning"))
    assert answer.choices[0].message.content == "You said: good morning"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 4)
    (served,) = simulator.served(key=key)
    assert served["response_id"] == answer.id
    assert served["outcome"] == "completed"
    assert served["usage"]["output_tokens"] == 4


async def test_chat_streams_word_by_word(async_openai: AsyncOpenAI) -> None:
    stream = await async_openai.chat.completions.create(
        model=LUNA,
        messages=say("good morning"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert words == ["", "You ", "said: ", "good ", "morning", None]
    assert [chunk.usage is not None for chunk in chunks] == [False] * 6 + [True]
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.total_tokens == 6


def test_usage_is_streamed_only_on_request(openai: OpenAI) -> None:
    stream = openai.chat.completions.create(model=LUNA, messages=say("hi"), stream=True)
    assert all(chunk.usage is None for chunk in stream)


def test_chat_counts_every_kind_of_token(openai: OpenAI) -> None:
    asked = "hi [[sim:cached=1000,cache_write=50,reasoning=200,input=200,output=150]]"
    usage = openai.chat.completions.create(model=LUNA, messages=say(asked)).usage
    assert usage
    assert usage.prompt_tokens_details
    assert usage.completion_tokens_details
    assert usage.prompt_tokens == 1250
    assert usage.prompt_tokens_details.cached_tokens == 1000
    assert usage.completion_tokens == 350
    assert usage.completion_tokens_details.reasoning_tokens == 200


def test_thinking_can_eat_the_whole_budget(openai: OpenAI) -> None:
    answer = openai.chat.completions.create(
        model=LUNA, messages=say("hello [[sim:reasoning=64]]"), max_completion_tokens=64
    )
    assert answer.choices[0].message.content == ""
    assert answer.choices[0].finish_reason == "length"


def test_caps_and_stops_are_obeyed(openai: OpenAI) -> None:
    text = say("one two END three")
    capped = openai.chat.completions.create(model=LUNA, messages=text, max_completion_tokens=3)
    assert capped.choices[0].message.content == "You said: one"
    assert capped.choices[0].finish_reason == "length"
    stopped = openai.chat.completions.create(model=LUNA, messages=text, stop=["END"])
    assert stopped.choices[0].message.content == "You said: one two"
    assert stopped.choices[0].finish_reason == "stop"


def test_images_are_accepted_and_counted(openai: OpenAI) -> None:
    def ask(url: str) -> Any:
        parts: list[Any] = [
            {"type": "text", "text": "what is this"},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        return openai.chat.completions.create(
            model=LUNA, messages=[{"role": "user", "content": parts}]
        )

    assert ask(PIXEL).usage.prompt_tokens == 3 + 85
    with pytest.raises(BadRequestError, match="image"):
        ask("file:///etc/passwd")


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_told(openai: OpenAI, stream: bool) -> None:
    asked = say("weather please")
    options: dict[str, Any] = {"model": "gpt-6.2-sol", "messages": asked, "tools": [CHAT_TOOL]}
    if stream:
        with openai.chat.completions.stream(**options) as events:
            answer: Any = events.get_final_completion()
    else:
        answer = openai.chat.completions.create(**options)
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "weather"
    assert call.function.arguments == '{"city":"weather please","days":1}'
    told: list[Any] = [
        *asked,
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    answer = openai.chat.completions.create(model="gpt-6.2-sol", messages=told, tools=[CHAT_TOOL])
    assert answer.choices[0].message.content == "The tool said: sunny"


def test_json_fits_its_schema(openai: OpenAI) -> None:
    answer = openai.chat.completions.create(
        model=LUNA,
        messages=say("Rome"),
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "trip", "schema": SCHEMA, "strict": True},
        },
    )
    assert answer.choices[0].message.content == '{"city":"Rome","days":1}'


@pytest.mark.parametrize(
    ("model", "extra", "param"),
    [
        ("gpt-6-luna", {"temperature": 0.2}, "temperature"),
        ("gpt-6.1-sol", {"temperature": 1}, "temperature"),
        ("gpt-6.2-astra", {"top_p": 0.5}, "top_p"),
        ("gpt-5", {"temperature": 0.2}, "temperature"),
        ("gpt-6-astra", {"max_tokens": 10}, "max_tokens"),
        ("gpt-6.2-sol", {"reasoning_effort": "none"}, "reasoning_effort"),
        ("gpt-6.1-sol", {"tools": [CHAT_TOOL]}, "tools"),
        ("gpt-6-luna", {"tools": [CHAT_TOOL]}, "tools"),
        ("o3", {"stop": ["x"]}, "stop"),
    ],
)
def test_what_a_model_does_not_take_is_refused(
    openai: OpenAI, model: str, extra: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        openai.chat.completions.create(model=model, messages=say("hi"), **extra)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("model", "extra"),
    [
        ("gpt-6-luna", {"temperature": 0.2, "reasoning_effort": "none"}),
        ("gpt-6-luna", {"tools": [CHAT_TOOL], "reasoning_effort": "none"}),
        ("gpt-6.2-astra", {"tools": [CHAT_TOOL]}),
        ("gpt-5", {"temperature": 1}),
        ("gpt-4o", {"temperature": 0.2, "max_tokens": 10}),
    ],
)
def test_what_a_model_takes_is_taken(openai: OpenAI, model: str, extra: dict[str, Any]) -> None:
    answer = openai.chat.completions.create(model=model, messages=say("hi"), **extra)
    assert answer.choices[0].message.content == "You said: hi"


@pytest.mark.parametrize("model", ["gpt-4", "gpt-nope"])
def test_a_model_that_is_gone_is_not_found(openai: OpenAI, model: str) -> None:
    with pytest.raises(NotFoundError) as refused:
        openai.chat.completions.create(model=model, messages=say("hi"))
    assert refused.value.code == "model_not_found"


def test_responses_say_it_back(openai: OpenAI, simulator: RunningSimulator, key: str) -> None:
    answer = openai.responses.create(
        model=LUNA, instructions="Be brief.", input="good morning", store=False
    )
    assert answer.output_text == "You said: good morning"
    assert answer.status == "completed"
    assert answer.usage
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (4, 4)
    assert simulator.served(key=key)[0]["response_id"] == answer.id


async def test_responses_stream_in_order(async_openai: AsyncOpenAI) -> None:
    stream = await async_openai.responses.create(
        model=LUNA, input="hi [[sim:reasoning=5]]", stream=True
    )
    events: list[Any] = [event async for event in stream]
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == "You said: hi"
    assert events[-1].response.usage.output_tokens_details.reasoning_tokens == 5


def test_a_short_response_is_incomplete(openai: OpenAI) -> None:
    with openai.responses.stream(model=LUNA, input="one two three", max_output_tokens=3) as stream:
        last: Any = list(stream)[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.output_text == "You said: one"


@pytest.mark.parametrize("stream", [False, True])
def test_responses_call_tools(openai: OpenAI, stream: bool) -> None:
    options: dict[str, Any] = {"model": "gpt-6.1-sol", "input": "weather now", "tools": [TOOL]}
    if stream:
        with openai.responses.stream(**options) as events:
            answer: Any = events.get_final_response()
    else:
        answer = openai.responses.create(**options)
    (call,) = answer.output
    assert (call.type, call.name) == ("function_call", "weather")
    assert call.arguments == '{"city":"weather now","days":1}'
    told: list[Any] = [
        {"role": "user", "content": "weather now"},
        call.to_dict(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
    ]
    answer = openai.responses.create(model="gpt-6.1-sol", input=told, tools=[TOOL])
    assert answer.output_text == "The tool said: rain"


def test_a_refusal_is_told_apart(openai: OpenAI) -> None:
    chat = openai.chat.completions.create(model=LUNA, messages=say("x [[sim:refuse]]"))
    assert chat.choices[0].message.refusal == "I cannot help with that."
    with openai.responses.stream(model=LUNA, input="x [[sim:refuse]]") as stream:
        kinds = [event.type for event in stream]
    assert "response.refusal.delta" in kinds


def test_input_tokens_are_counted(openai: OpenAI) -> None:
    parts: list[Any] = [
        {"type": "input_text", "text": "what is this"},
        {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
    ]
    counted = openai.responses.input_tokens.count(
        model=LUNA, input=[{"role": "user", "content": parts}]
    )
    assert counted.input_tokens == 3 + 85


def test_reasoning_comes_back_encrypted_or_not_at_all(openai: OpenAI) -> None:
    asked: dict[str, Any] = {"model": LUNA, "input": "hi [[sim:reasoning=5]]"}
    named = openai.responses.create(**asked).output[0].model_dump(exclude_none=True)
    assert (named["type"], "encrypted_content" in named) == ("reasoning", False)
    reference = {"type": "item_reference", "id": "msg_1"}
    alone: list[Any] = [named, reference]
    for item in alone:
        with pytest.raises(NotFoundError, match="Items are not persisted"):
            openai.responses.create(model=LUNA, input=[item])
    include: Any = ["reasoning.encrypted_content"]
    whole = openai.responses.create(**asked, include=include).output[0].model_dump()
    assert whole["encrypted_content"]
    told: Any = [whole, {"role": "user", "content": "hi"}]
    assert openai.responses.create(model=LUNA, input=told).output_text == "You said: hi"
    with pytest.raises(BadRequestError, match="not supported with this model"):
        openai.responses.create(model="gpt-4o", input="hi", include=include)


def test_responses_refuse_what_they_do_not_know(openai: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        openai.responses.create(model=LUNA, input="hi", extra_body={"stop": ["x"]})
    assert refused.value.param == "stop"
    with pytest.raises(BadRequestError) as refused:
        openai.responses.create(model=LUNA, input="hi", temperature=0.3)
    assert refused.value.param == "temperature"


def test_a_nested_error_event_is_raised_and_a_flat_one_yielded(openai: OpenAI) -> None:
    nested = openai.responses.create(model=LUNA, input="hi [[sim:stream_error]]", stream=True)
    with pytest.raises(APIError):
        list(nested)
    flat = openai.responses.create(model=LUNA, input="hi [[sim:stream_error_flat]]", stream=True)
    last: Any = list(flat)[-1]
    assert (last.type, last.code) == ("error", "server_error")
    failed = openai.responses.create(model=LUNA, input="hi [[sim:stream_failed]]", stream=True)
    last = list(failed)[-1]
    assert last.response.status == "failed"


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("mp3", b"\xff\xf3"),
        ("wav", b"RIFF"),
        ("pcm", b"\0\0"),
        ("opus", b"OggS"),
        ("flac", b"fLaC"),
        ("aac", b"\xff\xf1"),
    ],
)
def test_speech_comes_in_every_format(openai: OpenAI, form: Any, start: bytes) -> None:
    audio = openai.audio.speech.create(
        model="gpt-4o-mini-tts", voice="alloy", input="hello there", response_format=form
    )
    assert audio.content.startswith(start)


async def test_speech_streams(async_openai: AsyncOpenAI) -> None:
    speech = async_openai.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="hello there [[sim:chunks=7]]", response_format="pcm"
    )
    async with speech as response:
        audio = b"".join([part async for part in response.iter_bytes()])
    assert len(audio) == 28 * 960 * 2  # 40 ms a character at 24 kHz


def test_speech_can_be_events(openai: OpenAI, simulator: RunningSimulator, key: str) -> None:
    audio = openai.audio.speech.create(
        model="gpt-4o-mini-tts", voice="alloy", input="hello there", stream_format="sse"
    )
    assert audio.content.count(b'"speech.audio.delta"') == 2
    assert audio.content.count(b'"speech.audio.done"') == 1
    assert simulator.served(key=key)[0]["usage"] == {"characters": 11}
