"""A Chat Completions request in our words.

Wire format: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.chat.api.fields import Fields
from services.chat.api.openai_parts import (
    EFFORTS,
    content_parts,
    format_of,
    refuse,
    text_alone,
    text_of,
    tool_choice_of,
    tools_of,
)
from services.chat.domain.content import (
    ContentPart,
    ImagePart,
    Role,
    ToolCall,
    ToolResult,
    Utterance,
)
from services.chat.domain.errors import UnsupportedParameter
from shared.values import dataclass

_ROLES = ("developer", "system", "user", "assistant", "tool")
_REFUSED = (
    "audio",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "prediction",
    "top_logprobs",
)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What was asked, and how the answer is to travel."""

    model: str
    stream: bool
    usage_in_stream: bool
    parts: dict[str, Any]  # the fields of a Call


def chat_request(fields: Fields) -> ChatRequest:
    """Raises BadParameter or UnsupportedParameter."""
    refuse(fields, *_REFUSED)
    if "web_search_options" in fields:
        # An empty object asks for it as well.
        raise UnsupportedParameter("web_search_options")
    if (fields.count("n") or 1) > 1:
        raise fields.wrong("n", "1")
    if fields.raw("modalities") not in (None, ["text"]):
        raise fields.wrong("modalities", "text alone")
    tools = tools_of(fields, nested=True)
    options = fields.object("stream_options")
    system, utterances = _conversation(fields)
    return ChatRequest(
        model=fields.needed_text("model"),
        stream=fields.flag("stream") or False,
        usage_in_stream=bool(options is not None and options.flag("include_usage")),
        parts={
            "system_prompt": system,
            "utterances": utterances,
            "max_output_tokens": fields.count("max_completion_tokens")
            or fields.count("max_tokens"),
            "tools": tools,
            "tool_choice": tool_choice_of(fields, tools, nested=True),
            "parallel_tool_calls": fields.flag("parallel_tool_calls"),
            "temperature": fields.number("temperature", 0, 2),
            "top_p": fields.number("top_p", 0, 1),
            "stop": fields.texts("stop", 4),
            "effort": fields.word("reasoning_effort", EFFORTS),
            "answer_format": format_of(fields.object("response_format"), nested=True),
        },
    )


def _conversation(fields: Fields) -> tuple[str | None, list[Utterance]]:
    system: list[str] = []
    utterances: list[Utterance] = []
    for message in fields.objects("messages"):
        role = message.word("role", _ROLES)
        if role in ("developer", "system"):
            system.append(text_alone(message, "content", ("text",)))
        elif role == "tool":
            _add_result(utterances, message)
        elif role is not None:
            utterances.append(_utterance(Role(role), message))
        else:
            raise message.wrong("role", "one of " + ", ".join(_ROLES))
    if not utterances:
        raise fields.wrong("messages", "a list with something said in it")
    return "\n\n".join(system) or None, utterances


def _add_result(utterances: list[Utterance], message: Fields) -> None:
    """Results that follow each other answer the calls of one turn."""
    result = ToolResult(
        message.needed_text("tool_call_id"), text_alone(message, "content", ("text",))
    )
    if utterances and utterances[-1].role is Role.TOOL:
        earlier = utterances.pop()
        utterances.append(Utterance(Role.TOOL, "", tool_results=(*earlier.tool_results, result)))
    else:
        utterances.append(Utterance(Role.TOOL, "", tool_results=(result,)))


def _utterance(role: Role, message: Fields) -> Utterance:
    calls = tuple(_calls(message))
    if role is not Role.USER:
        return Utterance(role, text_alone(message, "content", ("text",)), tool_calls=calls)
    parts = content_parts(message, "content", ("text",))
    if not parts:
        raise message.wrong("content", "a text or a list of parts")
    return Utterance(role, text_of(parts), parts=_mixed(parts), tool_calls=calls)


def _mixed(parts: list[ContentPart]) -> tuple[ContentPart, ...]:
    """The parts, where their text alone would not do."""
    return tuple(parts) if any(isinstance(part, ImagePart) for part in parts) else ()


def _calls(message: Fields) -> Iterator[ToolCall]:
    for call in message.objects("tool_calls"):
        if call.raw("type") not in (None, "function"):
            raise call.wrong("type", "function")
        function = call.needed_object("function")
        yield ToolCall(
            call.needed_text("id"),
            function.needed_text("name"),
            function.text("arguments") or "{}",
        )
