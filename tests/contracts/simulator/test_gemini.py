"""The official Google SDK on the native API: models, content, streams and token counts."""

from typing import Any, Final

import pytest
from google import genai
from google.genai import errors, types

from tests.support.simulator.process import RunningSimulator

FLASH: Final = "gemini-3.8-flash"
TOOL: Final = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="weather",
            parameters_json_schema={
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            },
        )
    ]
)
# The SDK's own aiohttp session is a subclass, of which aiohttp disapproves.
by_aiohttp = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession")
MANUAL: Final = types.AutomaticFunctionCallingConfig(disable=True)


def test_models_are_paged(gemini: genai.Client) -> None:
    models = {model.name: model for model in gemini.models.list(config={"page_size": 3})}
    actions = models[f"models/{FLASH}"].supported_actions
    assert actions
    assert "generateContent" in actions
    assert "models/gemini-flash-latest" not in models
    assert gemini.models.get(model=FLASH).input_token_limit == 1_048_576
    with pytest.raises(errors.ClientError) as refused:
        gemini.models.get(model="gemini-pro")
    assert refused.value.code == 404


def test_aliases_live_on_the_beta_version(simulator: RunningSimulator, key: str) -> None:
    options = types.HttpOptions(base_url=simulator.gemini, api_version="v1beta")
    with genai.Client(api_key=key, http_options=options) as client:
        answer = client.models.generate_content(model="gemini-flash-latest", contents="hi")
    assert answer.model_version == FLASH


def test_content_is_said_back(gemini: genai.Client, simulator: RunningSimulator) -> None:
    answer = gemini.models.generate_content(
        model=FLASH,
        contents="good morning",
        config=types.GenerateContentConfig(
            system_instruction="Be brief.",
            temperature=0.2,
            thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW),
            safety_settings=[
                types.SafetySetting(
                    category=types.HarmCategory.HARM_CATEGORY_HARASSMENT,
                    threshold=types.HarmBlockThreshold.BLOCK_ONLY_HIGH,
                )
            ],
        ),
    )
    assert answer.text == "You said: good morning"
    assert answer.candidates
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    assert answer.usage_metadata
    assert answer.usage_metadata.prompt_token_count == 4
    assert answer.usage_metadata.candidates_token_count == 4
    assert simulator.served(vendor="gemini", limit=1)[0]["response_id"] == answer.response_id


@by_aiohttp
async def test_usage_rises_along_a_stream(async_gemini: genai.Client) -> None:
    stream = await async_gemini.aio.models.generate_content_stream(
        model=FLASH, contents="good morning [[sim:cached=10,reasoning=7]]"
    )
    chunks = [chunk async for chunk in stream]
    assert [chunk.text for chunk in chunks] == ["You ", "said: ", "good ", "morning", ""]
    counts: list[Any] = [chunk.usage_metadata for chunk in chunks]
    assert [count.candidates_token_count for count in counts] == [1, 2, 3, 4, 4]
    assert [count.total_token_count for count in counts] == [21, 22, 23, 24, 24]
    assert counts[-1].cached_content_token_count == 10
    assert counts[-1].thoughts_token_count == 7
    assert chunks[-1].candidates
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP


def test_thoughts_are_shown_on_request(gemini: genai.Client) -> None:
    thinking = types.ThinkingConfig(include_thoughts=True)
    config = types.GenerateContentConfig(thinking_config=thinking)
    answer: Any = gemini.models.generate_content(
        model=FLASH, contents="hi [[sim:reasoning=7]]", config=config
    )
    assert [bool(part.thought) for part in answer.candidates[0].content.parts] == [True, False]
    assert answer.text == "You said: hi"


@pytest.mark.parametrize("mode", ["AUTO", "ANY"])
def test_a_function_is_called_and_its_result_told(gemini: genai.Client, mode: Any) -> None:
    config = types.GenerateContentConfig(
        tools=[TOOL],
        automatic_function_calling=MANUAL,
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(mode=mode)
        ),
    )
    answer: Any = gemini.models.generate_content(model=FLASH, contents="weather now", config=config)
    (call,) = answer.function_calls
    assert (call.name, call.args) == ("weather", {"city": "weather now", "days": 1})
    told = [
        types.Content(role="user", parts=[types.Part(text="weather now")]),
        answer.candidates[0].content,
        types.Content(
            role="user",
            parts=[
                types.Part(
                    function_response=types.FunctionResponse(
                        id=call.id, name="weather", response={"output": "rain"}
                    )
                )
            ],
        ),
    ]
    config.tool_config = None
    answer = gemini.models.generate_content(model=FLASH, contents=told, config=config)
    assert answer.text == "The tool said: rain"


def test_of_calls_made_at_once_the_first_is_signed_and_has_to_stay_so(
    gemini: genai.Client,
) -> None:
    config = types.GenerateContentConfig(tools=[TOOL], automatic_function_calling=MANUAL)
    question = types.Content(role="user", parts=[types.Part(text="weather [[sim:calls=2]]")])
    answer: Any = gemini.models.generate_content(model=FLASH, contents=[question], config=config)
    called: Any = answer.candidates[0].content
    assert [bool(part.thought_signature) for part in called.parts] == [True, False]
    results = types.Content(
        role="user",
        parts=[
            types.Part(
                function_response=types.FunctionResponse(
                    id=part.function_call.id, name="weather", response={"output": "rain"}
                )
            )
            for part in called.parts
        ],
    )
    told = [question, called, results]
    answer = gemini.models.generate_content(model=FLASH, contents=told, config=config)
    assert answer.text == "The tool said: rain rain"
    called.parts[0].function_call.id = None
    gemini.models.generate_content(model=FLASH, contents=told, config=config)
    called.parts[0].thought_signature = b"of another call"
    with pytest.raises(errors.ClientError, match="not valid"):
        gemini.models.generate_content(model=FLASH, contents=told, config=config)
    called.parts[0].thought_signature = None
    with pytest.raises(errors.ClientError, match="thought_signature"):
        gemini.models.generate_content(model=FLASH, contents=told, config=config)


def test_images_and_json(gemini: genai.Client) -> None:
    image = types.Part.from_bytes(data=b"\x89PNG", mime_type="image/png")
    config = types.GenerateContentConfig(
        response_mime_type="application/json",
        response_schema={"type": "OBJECT", "properties": {"what": {"type": "STRING"}}},
    )
    answer = gemini.models.generate_content(
        model=FLASH,
        contents=types.Content(role="user", parts=[image, types.Part(text="a pixel")]),
        config=config,
    )
    assert answer.text == '{"what":"a pixel"}'
    assert answer.usage_metadata
    assert answer.usage_metadata.prompt_token_count == 2 + 85


def test_a_blocked_prompt_has_no_candidates(gemini: genai.Client) -> None:
    answer = gemini.models.generate_content(
        model=FLASH, contents="x [[sim:block=PROHIBITED_CONTENT]]"
    )
    assert not answer.candidates
    assert answer.prompt_feedback
    assert answer.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT
    (chunk,) = gemini.models.generate_content_stream(model=FLASH, contents="x [[sim:block]]")
    assert not chunk.candidates
    assert chunk.prompt_feedback


@pytest.mark.parametrize("stream", [False, True])
def test_the_sdk_follows_continuations(
    gemini: genai.Client, simulator: RunningSimulator, stream: bool
) -> None:
    text = "a b c d [[sim:continuation=2]]"
    if stream:
        chunks = list(gemini.models.generate_content_stream(model=FLASH, contents=text))
        said, last = "".join(chunk.text or "" for chunk in chunks), chunks[-1]
    else:
        last = gemini.models.generate_content(model=FLASH, contents=text)
        said = last.text or ""
    assert said == "You said: a b c d"
    assert last.usage_metadata
    assert last.usage_metadata.candidates_token_count == 6
    assert last.usage_metadata.prompt_token_count == 3 * 5
    assert [
        served["usage"]["output_tokens"] for served in simulator.served(vendor="gemini", limit=3)
    ] == [2, 2, 2]


def test_a_cap_ends_the_text(gemini: genai.Client) -> None:
    config = types.GenerateContentConfig(max_output_tokens=3)
    answer = gemini.models.generate_content(model=FLASH, contents="a b c", config=config)
    assert answer.text == "You said: a"
    assert answer.candidates
    assert answer.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS


def test_an_old_model_is_silently_served_by_a_new_one(gemini: genai.Client) -> None:
    answer = gemini.models.generate_content(model="gemini-2.5-flash", contents="hi")
    assert answer.model_version == "gemini-3.5-flash-lite"


def test_tokens_are_counted(gemini: genai.Client) -> None:
    assert gemini.models.count_tokens(model=FLASH, contents="a b c").total_tokens == 3


@pytest.mark.parametrize(
    "config",
    [
        {"thinking_config": {"thinking_level": "MINIMAL"}},
        {"thinking_config": {"thinking_budget": 100}},
        {"thinking_config": {"thinking_budget": 100, "thinking_level": "LOW"}},
        {"candidate_count": 2},
        {"safety_settings": [{"category": "HARM_CATEGORY_IMAGE_HATE", "threshold": "OFF"}]},
    ],
)
def test_bad_requests_are_refused(gemini: genai.Client, config: Any) -> None:
    with pytest.raises(errors.ClientError) as refused:
        gemini.models.generate_content(model=FLASH, contents="hi", config=config)
    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")


def test_a_last_turn_of_the_model_is_refused(gemini: genai.Client) -> None:
    turns = [types.Content(role="model", parts=[types.Part(text="hi")])]
    with pytest.raises(errors.ClientError, match="last turn"):
        gemini.models.generate_content(model=FLASH, contents=turns)


@by_aiohttp
@pytest.mark.parametrize("kind", ["stream_error", "stream_error_bare"])
async def test_both_errors_in_mid_stream_are_raised(
    async_gemini: genai.Client, gemini: genai.Client, kind: str
) -> None:
    text = f"a b [[sim:{kind}]]"
    with pytest.raises(errors.ServerError) as failed:
        list(gemini.models.generate_content_stream(model=FLASH, contents=text))
    assert failed.value.status == "UNAVAILABLE"
    with pytest.raises(errors.ServerError):
        async for _ in await async_gemini.aio.models.generate_content_stream(
            model=FLASH, contents=text
        ):
            pass


def test_line_separators_stay_inside_the_text(gemini: genai.Client) -> None:
    chunks = gemini.models.generate_content_stream(model=FLASH, contents="x [[sim:u2028]]")
    text = "".join(chunk.text or "" for chunk in chunks)
    assert text == "You said: x line\u2028paragraph\u2029next\u0085end"
