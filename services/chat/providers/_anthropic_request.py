"""A prompt in the words of Anthropic's Messages: https://docs.anthropic.com/en/api/messages"""

from __future__ import annotations

import base64
import re
from typing import Any

from services.chat.domain.content import (
    ContentPart,
    Effort,
    ImagePart,
    Role,
    Tool,
    ToolCall,
    ToolResult,
    Utterance,
)
from services.chat.domain.turn import Prompt
from services.chat.providers._anthropic_models import facts_of
from services.chat.providers._conversation import (
    Block,
    Turn,
    arguments_of,
    in_turns,
    system_text,
)
from services.chat.providers._model_facts import nearest
from shared.vendors.anthropic import API_VERSION, OLD_API_VERSION

_HIGHEST_TEMPERATURE = 1.0
_JSON_ONLY = "Answer with a single JSON object and nothing else."
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")
_CHOICES = {"auto": "auto", "none": "none", "required": "any", "named": "tool"}


def to_wire(prompt: Prompt, *, stream: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """The request's body and its headers."""
    thinking = _thinking(prompt)
    sampling = {} if thinking else _sampling(prompt)
    body: dict[str, Any] = {
        "model": prompt.choice.model,
        "max_tokens": prompt.choice.max_output_tokens,
        "messages": _messages(prompt),
        "metadata": {"user_id": prompt.end_user},
        **_system(prompt),
        **_tools(prompt),
        **_output_config(prompt),
        **thinking,
        **sampling,
    }
    if prompt.stop:
        body["stop_sequences"] = list(prompt.stop)
    if stream:
        body["stream"] = True
    return body, {"anthropic-version": OLD_API_VERSION if sampling else API_VERSION}


def _system(prompt: Prompt) -> dict[str, Any]:
    wants_any_json = prompt.answer_format is not None and prompt.answer_format.schema is None
    said = system_text(prompt, _JSON_ONLY if wants_any_json else "")
    return {"system": said} if said else {}


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    return [_message(turn) for turn in in_turns(prompt.utterances, _blocks)]


def _message(turn: Turn) -> dict[str, Any]:
    if turn.by_assistant:
        return {"role": "assistant", "content": turn.blocks}
    # Results have to come before anything else that is said with them.
    blocks = sorted(turn.blocks, key=lambda block: block["type"] != "tool_result")
    return {"role": "user", "content": blocks}


def _blocks(utterance: Utterance) -> list[Block]:
    parts = [_part(part) for part in utterance.ordered if _says_something(part)]
    if utterance.role is not Role.ASSISTANT:
        return [*map(_result, utterance.tool_results), *parts]
    calls = [_call(call) for call in utterance.tool_calls]
    if not parts and not calls:
        return []
    thoughts = [dict(t.block) for t in utterance.thoughts if t.provider == "anthropic"]
    return [*thoughts, *parts, *calls]


def _says_something(part: ContentPart) -> bool:
    return isinstance(part, ImagePart) or bool(part.text.strip())


def _part(part: ContentPart) -> Block:
    if isinstance(part, ImagePart):
        return {"type": "image", "source": _source(part)}
    return {"type": "text", "text": part.text}


def _source(image: ImagePart) -> Block:
    if image.data is None:
        return {"type": "url", "url": image.url}
    encoded = base64.b64encode(image.data).decode()
    return {"type": "base64", "media_type": image.media_type, "data": encoded}


def _call(call: ToolCall) -> Block:
    return {
        "type": "tool_use",
        "id": _native_id(call.id),
        "name": call.name,
        "input": arguments_of(call),
    }


def _result(result: ToolResult) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": _native_id(result.call_id)}
    if result.content.strip():
        block["content"] = result.content
    if result.failed:
        block["is_error"] = True
    return block


def _native_id(call_id: str) -> str:
    """Another vendor's ids may hold what this one refuses."""
    return _FOREIGN.sub("_", call_id)


def _tools(prompt: Prompt) -> dict[str, Any]:
    if not prompt.tools:
        return {}
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in prompt.tools]}
    if (choice := _tool_choice(prompt)) is not None:
        fields["tool_choice"] = choice
    return fields


def _tool(tool: Tool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": tool.name,
        "input_schema": {"type": "object", **(tool.parameters or {})},
    }
    if tool.description is not None:
        made["description"] = tool.description
    if tool.strict is not None:
        made["strict"] = tool.strict
    return made


def _tool_choice(prompt: Prompt) -> dict[str, Any] | None:
    one_at_a_time = prompt.parallel_tool_calls is False
    if prompt.tool_choice is None and not one_at_a_time:
        return None
    mode = prompt.tool_choice.mode if prompt.tool_choice else "auto"
    choice: dict[str, Any] = {"type": _CHOICES[mode]}
    if prompt.tool_choice and mode == "named":
        choice["name"] = prompt.tool_choice.name
    if one_at_a_time and mode != "none":
        choice["disable_parallel_tool_use"] = True
    return choice


def _output_config(prompt: Prompt) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if prompt.effort is not None and (effort := _effort(prompt.choice.model, prompt.effort)):
        config["effort"] = effort
    if prompt.answer_format is not None and prompt.answer_format.schema is not None:
        config["format"] = {"type": "json_schema", "schema": prompt.answer_format.schema}
    return {"output_config": config} if config else {}


def _effort(model: str, effort: Effort) -> Effort | None:
    facts = facts_of(model)
    if not facts.efforts or (effort == "none" and not facts.always_thinks):
        return None
    return nearest(effort, facts.efforts)


def _thinking(prompt: Prompt) -> dict[str, Any]:
    """Who asks for effort gets to see the thoughts; who asks for none gets none."""
    facts = facts_of(prompt.choice.model)
    if prompt.effort is None or not facts.efforts:
        return {}
    if prompt.effort == "none":
        return {} if facts.always_thinks else {"thinking": {"type": "disabled"}}
    # A call that is forced leaves no room for thinking, and asking for both is refused.
    if prompt.tool_choice is not None and prompt.tool_choice.mode in {"required", "named"}:
        return {}
    return {"thinking": {"type": "adaptive", "display": "summarized"}}


def _sampling(prompt: Prompt) -> dict[str, Any]:
    """One of the two wishes: these models refuse both at once."""
    if not facts_of(prompt.choice.model).takes_sampling:
        return {}
    temperature = prompt.asked_temperature
    if temperature is not None:
        return {"temperature": min(temperature, _HIGHEST_TEMPERATURE)}
    return {} if prompt.top_p is None else {"top_p": prompt.top_p}
