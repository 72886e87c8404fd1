"""What chat sends, held against the request types of the vendors' own SDKs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_type_hints

import pytest
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from google.genai import types
from pydantic import TypeAdapter

from services.chat.domain.content import (
    AnswerFormat,
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
from services.chat.domain.turn import Prompt
from services.chat.providers import chat_wires
from tests.support.wires import a_prompt

CALLS = [ToolCall("c1", "look", '{"q":1}', signature="c2ln"), ToolCall("c2", "look", "")]
THOUGHT = Thought("anthropic", {"type": "thinking", "thinking": "hm", "signature": "c2ln"})
CONVERSATION = [
    Said(Role.USER, "a", parts=[TextPart("a"), ImagePart("image/png", b"\x89PNG")]),
    Said(Role.ASSISTANT, "b", tool_calls=CALLS, thoughts=[THOUGHT]),
    Said(Role.TOOL, "", tool_results=[ToolResult("c1", "c"), ToolResult("c2", "d", failed=True)]),
    Said(Role.USER, "", parts=[ImagePart(url="https://images.invalid/a.png")]),
]
SCHEMA: Mapping[str, Any] = {"type": "object", "properties": {}}
WISHES: Mapping[str, Any] = {
    "system_prompt": "e",
    "tools": [Tool("look", "f", SCHEMA, strict=True)],
    "tool_choice": ToolChoice("auto"),
    "parallel_tool_calls": False,
    "temperature": 0.5,
    "top_p": 0.5,
    "stop": ["g"],
    "effort": "high",
    "answer_format": AnswerFormat(SCHEMA),
}


def full(vendor: str, **parts: Any) -> Prompt:
    """A prompt with everything there is."""
    return a_prompt(vendor, *CONVERSATION, **{**WISHES, **parts})


@pytest.mark.parametrize("model", ["claude-sonnet-5-5", "claude-haiku-4-5"])
@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_sdk_knows_all_that_we_send(stream: bool, model: str) -> None:
    request = chat_wires["anthropic"].request(full("anthropic", model=model), stream=stream)
    type_: Any = MessageCreateParamsStreaming if stream else MessageCreateParamsNonStreaming

    TypeAdapter(type_).validate_python(request.body)
    # Its present version takes no temperature; the one before, which we then ask for, did.
    sampling = {"temperature"} if request.headers["anthropic-version"] == "2023-06-01" else set()
    assert set(request.body) - set(get_type_hints(type_)) == sampling


@pytest.mark.parametrize("model", ["gemini-3.8-flash", "gemini-2.5-pro"])
def test_googles_sdk_knows_all_that_we_send(model: str) -> None:
    body = chat_wires["gemini"].request(full("gemini", model=model), stream=False).body

    # These types forbid what they do not know.
    for content in (*body["contents"], body["systemInstruction"]):
        types.Content.model_validate(content)
    for tool in body["tools"]:
        types.Tool.model_validate(tool)
    for setting in body["safetySettings"]:
        types.SafetySetting.model_validate(setting)
    types.ToolConfig.model_validate(body["toolConfig"])
    types.GenerateContentConfig.model_validate(body["generationConfig"])
    assert len(body) == 6
