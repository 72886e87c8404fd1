"""A Responses request in our words.

Wire format: https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from dataclasses import replace
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
    ImagePart,
    Role,
    Thought,
    ToolCall,
    ToolResult,
    Utterance,
)
from services.chat.domain.errors import ItemNotKept
from shared.values import dataclass

_ROLES = ("developer", "system", "user", "assistant")
_TEXTS = ("input_text", "output_text", "text")
_REFUSED = ("background", "conversation", "previous_response_id", "prompt", "top_logprobs")


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """What was asked, and how the answer is to travel."""

    model: str
    stream: bool
    parts: dict[str, Any]  # the fields of a Call
    echoed: dict[str, Any]  # what an answer repeats of its request


def responses_request(fields: Fields) -> ResponsesRequest:
    """Raises BadParameter or UnsupportedParameter."""
    refuse(fields, *_REFUSED)
    tools = tools_of(fields, nested=False)
    reasoning, text = fields.object("reasoning"), fields.object("text")
    conversation = _Conversation(fields)
    temperature, top_p = fields.number("temperature", 0, 2), fields.number("top_p", 0, 1)
    most = fields.count("max_output_tokens")
    return ResponsesRequest(
        model=fields.needed_text("model"),
        stream=fields.flag("stream") or False,
        parts={
            "system_prompt": conversation.system_prompt,
            "utterances": conversation.utterances,
            "max_output_tokens": most,
            "tools": tools,
            "tool_choice": tool_choice_of(fields, tools, nested=False),
            "parallel_tool_calls": fields.flag("parallel_tool_calls"),
            "temperature": temperature,
            "top_p": top_p,
            "effort": reasoning.word("effort", EFFORTS) if reasoning is not None else None,
            "answer_format": format_of(
                text.object("format") if text is not None else None, nested=False
            ),
        },
        echoed={
            "instructions": fields.text("instructions"),
            "max_output_tokens": most,
            "parallel_tool_calls": fields.raw("parallel_tool_calls") is not False,
            "temperature": temperature,
            "top_p": top_p,
            "tool_choice": fields.raw("tool_choice") or "auto",
            "tools": fields.raw("tools") or [],
            "text": fields.raw("text") or {"format": {"type": "text"}},
            "reasoning": fields.raw("reasoning"),
            "metadata": fields.raw("metadata") or {},
        },
    )


class _Conversation:
    """The items of `input`, put together to utterances: a turn of the assistant may be spread over
    reasoning, text and calls."""

    def __init__(self, fields: Fields) -> None:
        self.utterances: list[Utterance] = []
        instructions = fields.text("instructions")
        self._system = [instructions] if instructions else []
        if isinstance(fields.raw("input"), str):
            self.utterances.append(Utterance(Role.USER, fields.raw("input")))
        else:
            for item in fields.objects("input"):
                self._take(item)
        if not self.utterances:
            raise fields.wrong("input", "a text or a list with something said in it")

    @property
    def system_prompt(self) -> str | None:
        return "\n\n".join(self._system) or None

    def _take(self, item: Fields) -> None:
        kind = item.text("type") or "message"
        if kind == "message":
            self._take_message(item)
        elif kind == "function_call":
            call = ToolCall(
                item.needed_text("call_id"),
                item.needed_text("name"),
                item.text("arguments") or "{}",
            )
            turn = self._open_turn()
            self._replace(turn, tool_calls=(*turn.tool_calls, call))
        elif kind == "function_call_output":
            self._take_output(item)
        elif kind == "reasoning":
            turn = self._open_turn()
            self._replace(turn, thoughts=(*turn.thoughts, Thought("openai", item.whole)))
        elif kind == "item_reference":
            raise ItemNotKept(item.place)
        else:
            raise item.wrong("type", "a message, a function call, its output or reasoning")

    def _take_message(self, item: Fields) -> None:
        role = item.word("role", _ROLES)
        if role in ("developer", "system"):
            self._system.append(text_alone(item, "content", _TEXTS))
        elif role == "assistant":
            self._take_answer(item)
        elif role == "user":
            parts = content_parts(item, "content", _TEXTS)
            mixed = tuple(parts) if any(isinstance(part, ImagePart) for part in parts) else ()
            self.utterances.append(Utterance(Role.USER, text_of(parts), mixed))
        else:
            raise item.wrong("role", "one of " + ", ".join(_ROLES))

    def _take_answer(self, item: Fields) -> None:
        text, turn = text_alone(item, "content", _TEXTS), self._open_turn()
        thoughts = turn.thoughts
        if phase := item.text("phase"):
            # The model wants it back with its text, as it wants its reasoning.
            thoughts = (*thoughts, Thought("openai", {"type": "message", "phase": phase}))
        self._replace(turn, content=turn.content + text, thoughts=thoughts)

    def _take_output(self, item: Fields) -> None:
        content = text_alone(item, "output", _TEXTS)
        result = ToolResult(item.needed_text("call_id"), content)
        last = self.utterances[-1] if self.utterances else None
        if last is not None and last.role is Role.TOOL:
            self._replace(last, tool_results=(*last.tool_results, result))
        else:
            self.utterances.append(Utterance(Role.TOOL, "", tool_results=(result,)))

    def _open_turn(self) -> Utterance:
        """The assistant's turn that is being put together."""
        if not self.utterances or self.utterances[-1].role is not Role.ASSISTANT:
            self.utterances.append(Utterance(Role.ASSISTANT, ""))
        return self.utterances[-1]

    def _replace(self, last: Utterance, **parts: Any) -> None:
        self.utterances[-1] = replace(last, **parts)
