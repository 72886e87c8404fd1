"""A prompt in the words of Gemini's generateContent: https://ai.google.dev/api/generate-content"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from services.chat.domain.content import (
    ContentPart,
    ImagePart,
    Role,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Utterance,
)
from services.chat.domain.errors import VendorRejectedRequest
from services.chat.domain.turn import Prompt
from services.chat.providers._conversation import Block, arguments_of, in_turns, system_text
from services.chat.providers._gemini_models import facts_of
from services.chat.providers._model_facts import nearest

_MOST_STOPS = 5
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
# What stands for the signature of a call that Gemini did not make itself. It asks for one with the
# first call of an answer: https://ai.google.dev/gemini-api/docs/thought-signatures
_FOREIGN_SIGNATURE = "skip_thought_signature_validator"
_SAFETY: Sequence[Mapping[str, str]] = [
    {"category": f"HARM_CATEGORY_{name}", "threshold": "BLOCK_MEDIUM_AND_ABOVE"}
    for name in ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
]


def to_wire(prompt: Prompt) -> dict[str, Any]:
    """The request's body; a stream is asked for by its path. Raises VendorRejectedRequest for what
    the vendor would not take."""
    system = system_text(prompt)
    return {
        "contents": _contents(prompt),
        **({"systemInstruction": {"parts": [{"text": system}]}} if system else {}),
        **_tools(prompt),
        "generationConfig": {
            "maxOutputTokens": prompt.choice.max_output_tokens,
            **_stops(prompt),
            **_sampling(prompt),
            **_thinking(prompt),
            **_answer_format(prompt),
        },
        "safetySettings": _SAFETY,
    }


def _contents(prompt: Prompt) -> list[dict[str, Any]]:
    names = {call.id: call.name for said in prompt.utterances for call in said.tool_calls}
    return [
        {"role": "model" if turn.by_assistant else "user", "parts": turn.blocks}
        for turn in in_turns(prompt.utterances, partial(_parts, names))
    ]


def _parts(names: Mapping[str, str], utterance: Utterance) -> list[Block]:
    parts = [_part(part) for part in utterance.ordered if _says_something(part)]
    if utterance.role is Role.ASSISTANT:
        return [*parts, *(_call(call, n == 0) for n, call in enumerate(utterance.tool_calls))]
    return [*(_result(result, names) for result in utterance.tool_results), *parts]


def _says_something(part: ContentPart) -> bool:
    return isinstance(part, ImagePart) or bool(part.text.strip())


def _part(part: ContentPart) -> Block:
    return _image(part) if isinstance(part, ImagePart) else {"text": part.text}


def _image(image: ImagePart) -> Block:
    if image.data is not None:
        encoded = base64.b64encode(image.data).decode()
        return {"inlineData": {"mimeType": image.media_type, "data": encoded}}
    url = image.url or ""
    media_type = image.media_type or mimetypes.guess_type(urlsplit(url).path)[0]
    return {"fileData": {"fileUri": url, **({"mimeType": media_type} if media_type else {})}}


def _call(call: ToolCall, is_first: bool) -> Block:
    signature = call.signature or (_FOREIGN_SIGNATURE if is_first else None)
    function = {"id": call.id, "name": call.name, "args": arguments_of(call)}
    return {
        "functionCall": function,
        **({"thoughtSignature": signature} if signature else {}),
    }


def _result(result: ToolResult, names: Mapping[str, str]) -> Block:
    return {
        "functionResponse": {
            "id": result.call_id,
            "name": result.name or names.get(result.call_id, result.call_id),
            "response": {"error" if result.failed else "output": result.content},
        }
    }


def _tools(prompt: Prompt) -> dict[str, Any]:
    if not prompt.tools:
        return {}
    fields: dict[str, Any] = {
        "tools": [{"functionDeclarations": [_declaration(tool) for tool in prompt.tools]}]
    }
    if prompt.tool_choice is not None:
        fields["toolConfig"] = {"functionCallingConfig": _choice(prompt.tool_choice)}
    return fields


def _declaration(tool: Tool) -> dict[str, Any]:
    declared: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        declared["description"] = tool.description
    if tool.parameters is not None:
        declared["parametersJsonSchema"] = tool.parameters
    return declared


def _choice(choice: ToolChoice) -> dict[str, Any]:
    config: dict[str, Any] = {"mode": _MODES[choice.mode]}
    if choice.mode == "named":
        config["allowedFunctionNames"] = [choice.name]
    return config


def _stops(prompt: Prompt) -> dict[str, Any]:
    if len(prompt.stop) > _MOST_STOPS:
        said = f"Gemini takes at most {_MOST_STOPS} stop sequences."
        raise VendorRejectedRequest(said, provider="gemini", again=False)
    return {"stopSequences": list(prompt.stop)} if prompt.stop else {}


def _sampling(prompt: Prompt) -> dict[str, Any]:
    if not facts_of(prompt.choice.model).takes_sampling:
        return {}
    wishes = {"temperature": prompt.asked_temperature, "topP": prompt.top_p}
    return {name: wish for name, wish in wishes.items() if wish is not None}


def _thinking(prompt: Prompt) -> dict[str, Any]:
    """Who asks for effort gets to see the thoughts. Thinking can't be turned off, so that none
    means as little as there is."""
    levels = facts_of(prompt.choice.model).efforts
    if prompt.effort is None or not levels:
        return {}
    config: dict[str, Any] = {"thinkingLevel": nearest(prompt.effort, levels).upper()}
    if prompt.effort != "none":
        config["includeThoughts"] = True
    return {"thinkingConfig": config}


def _answer_format(prompt: Prompt) -> dict[str, Any]:
    if prompt.answer_format is None:
        return {}
    config: dict[str, Any] = {"responseMimeType": "application/json"}
    if prompt.answer_format.schema is not None:
        config["responseJsonSchema"] = prompt.answer_format.schema
    return config
