"""OpenAI's Chat Completions: https://platform.openai.com/docs/api-reference/chat

Many hosts speak it; what differs between them is a `Dialect`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from services.chat.domain.content import (
    AnswerFormat,
    ImagePart,
    Role,
    Tool,
    ToolChoice,
    Utterance,
)
from services.chat.domain.frames import (
    Began,
    Ended,
    FinishReason,
    Frame,
    Text,
    Thinking,
    ToolCallPiece,
)
from services.chat.domain.turn import Prompt
from services.chat.domain.usage import Usage
from services.chat.providers._openai_errors import Refusals
from services.chat.providers._openai_models import ModelFacts
from services.chat.providers._reading import (
    DocumentReader,
    WholeBody,
    are_told,
    as_name,
    count,
    mapping,
    rows,
    said_in,
    text,
)
from services.chat.providers._sse import DataLines
from services.chat.providers._stopping import stopping
from services.chat.providers._wire import Reader, WireRequest
from shared.lenient_json import to_json
from shared.values import dataclass
from shared.vendors.failures import VendorFailed

PATH = "/v1/chat/completions"

_DONE = b"[DONE]"
_QUIET = frozenset(
    {
        *("id", "object", "created", "model", "choices", "usage"),
        *("service_tier", "system_fingerprint", "obfuscation"),
    }
)
_WORDS = frozenset({"role", "content"})
_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One host's way of speaking: its refusals, what its models take, and the names that it knows
    some things by."""

    refusals: Refusals
    facts_of: Callable[[str], ModelFacts]
    system_role: str = "developer"
    cap: str = "max_completion_tokens"
    tells_user: bool = True

    @property
    def provider(self) -> str:
        return self.refusals.provider

    def request(self, prompt: Prompt, *, stream: bool) -> WireRequest:
        """The prompt in this dialect, with a reader of its answer."""
        facts = self.facts_of(prompt.choice.model)
        stops = () if facts.stop else prompt.stop

        def reader() -> Reader:
            return stopping(self.reader(streamed=stream), stops)

        return WireRequest(PATH, to_wire(prompt, self, stream=stream), reader)

    def reader(self, *, streamed: bool) -> Reader:
        if streamed:
            lines = EventLines(self.provider)
            return DocumentReader(self.provider, lines, ChunkAnswer(self.refusals))
        body = WholeBody(self.provider)
        return DocumentReader(self.provider, body, CompletionAnswer(self.refusals))


class EventLines:
    """The documents of a stream, without the mark at its end."""

    def __init__(self, provider: str) -> None:
        self._lines = DataLines(provider)

    def feed(self, data: bytes) -> Sequence[bytes]:
        return [line for line in self._lines.feed(data) if line != _DONE]

    def end(self) -> Sequence[bytes]:
        return [line for line in self._lines.end() if line != _DONE]


class _Calls:
    """Puts the pieces of tool calls in order.

    Hosts differ: some number all calls alike or not at all, some repeat the id or the name with
    each piece.
    """

    def __init__(self) -> None:
        self._places: dict[Any, tuple[int, str | None]] = {}
        self.count = 0

    def piece(self, call: Mapping[str, Any], *, choice: Any = 0) -> ToolCallPiece:
        function, custom = mapping(call.get("function")), mapping(call.get("custom"))
        id_, key = text(call.get("id")) or None, (str(choice), str(call.get("index")))
        place, known = self._places.get(key, (-1, None))
        arguments = _arguments(function.get("arguments")) or text(custom.get("input"))
        if place >= 0 and (id_ is None or id_ == known):
            return ToolCallPiece(place, arguments=arguments)
        place, self.count = self.count, self.count + 1
        self._places[key] = (place, id_)
        name = text(function.get("name")) or text(custom.get("name")) or None
        return ToolCallPiece(place, id_, name, arguments)


def _arguments(value: Any) -> str:
    """They are text that holds JSON; a few hosts forget the text around it."""
    return to_json(value).decode() if isinstance(value, dict) else text(value)


class ChunkAnswer:
    """What `chat.completion.chunk` events add up to."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._began = False
        self._said = False
        self._refused = False
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}
        self._tier: Any = None
        self._calls = _Calls()

    def take(self, document: Mapping[str, Any]) -> Iterable[Frame]:
        if self._began and (frame := _only_words(document)) is not None:
            self._said = True
            return (frame,)
        return self._read(document)

    def _read(self, document: Mapping[str, Any]) -> Iterator[Frame]:
        if (error := error_in(document)) is not None:
            raise self._refusals.within(error, said=self._said)
        if not self._began and (document.get("id") or document.get("choices")):
            self._began = True
            yield began(document)
        if counts := said_in(document.get("usage")):
            self._usage |= counts
            self._tier = document.get("service_tier")
        # The chunk that carries the usage has no choices; a client's own request may want several.
        for choice in rows(document.get("choices")):
            for frame in self._frames(choice):
                self._said = True
                yield frame

    def _frames(self, choice: Mapping[str, Any]) -> Iterator[Frame]:
        delta = mapping(choice.get("delta"))
        self._finish = text(choice.get("finish_reason")) or self._finish
        self._refused = self._refused or bool(text(delta.get("refusal")))
        yield from _words(delta)
        for call in _calls_in(delta):
            yield self._calls.piece(call, choice=choice.get("index"))

    def end(self) -> Iterable[Frame]:
        # A cut connection can end like a whole one; only a finish reason tells them apart.
        if self._finish is None:
            raise VendorFailed(self._refusals.provider)
        usage = usage_of({"usage": self._usage, "service_tier": self._tier})
        return [_ended(self._finish, usage, self._calls, refused=self._refused)]


class CompletionAnswer:
    """One `chat.completion`."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._is_there = False

    def take(self, document: Mapping[str, Any]) -> Iterator[Frame]:
        choices = rows(document.get("choices"))
        if (error := error_in(document)) is not None:
            raise self._refusals.within(error, said=bool(choices))
        if not choices:
            raise VendorFailed(self._refusals.provider)
        self._is_there = True
        yield began(document)
        calls, refused = _Calls(), False
        for choice in choices:
            message = mapping(choice.get("message"))
            refused = refused or bool(text(message.get("refusal")))
            yield from _words(message)
            for number, call in enumerate(_calls_in(message)):
                yield calls.piece({**call, "index": number}, choice=choice.get("index"))
        finish = text(choices[0].get("finish_reason"))
        yield _ended(finish, usage_of(document), calls, refused=refused)

    def end(self) -> Iterable[Frame]:
        if not self._is_there:
            raise VendorFailed(self._refusals.provider)
        return ()


def began(document: Mapping[str, Any]) -> Began:
    """The answer's id, the model that gives it, and at which tier of service."""
    tier = as_name(document.get("service_tier"))
    told = Usage(service_tier=tier) if tier else None
    return Began(as_name(document.get("id")), as_name(document.get("model")), told)


def error_in(event: Mapping[str, Any]) -> Any:
    """What an event says went wrong; None when it is no error."""
    if event.get("error"):
        return event["error"]
    return event if event.get("object") == "error" else None


def _only_words(chunk: Mapping[str, Any]) -> Text | None:
    """What a chunk says that brings a piece of the answer and nothing else, as nearly all do."""
    choices = chunk.get("choices")
    if type(choices) is not list or len(choices) != 1 or not chunk.keys() <= _QUIET:
        return None
    choice = choices[0]
    if type(choice) is not dict or choice.get("finish_reason"):
        return None
    if chunk.get("usage") or chunk.get("object") == "error":
        return None
    delta = choice.get("delta")
    if type(delta) is not dict or not delta.keys() <= _WORDS:
        return None
    said = text(delta.get("content"))
    return Text(said) if said else None


def _words(message: Mapping[str, Any]) -> Iterator[Frame]:
    # OpenAI shows no reasoning here; llama.cpp, vLLM and Ollama do, under either name.
    for name in ("reasoning_content", "reasoning"):
        if thinking := text(message.get(name)):
            yield Thinking(thinking)
            break
    for name in ("content", "refusal"):
        if said := text(message.get(name)):
            yield Text(said)


def _calls_in(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Its tool calls. Whoever describes `functions`, as was done before there were tools, has at
    most one, and it has no id."""
    calls, function = rows(message.get("tool_calls")), mapping(message.get("function_call"))
    return calls if calls or not function else [{"function": function}]


def _ended(finish: str, usage: Usage | None, calls: _Calls, *, refused: bool) -> Ended:
    reason = _FINISH.get(finish, "other")
    if reason == "stop" and calls.count:
        # Where a tool was demanded by name, and at some hosts always, calls end in a `stop`.
        reason = "tool_calls"
    why = "refusal" if refused else finish if reason == "other" and finish else None
    return Ended(reason, usage, why=why)


def to_wire(prompt: Prompt, dialect: Dialect, *, stream: bool) -> dict[str, Any]:
    """The request body."""
    facts = dialect.facts_of(prompt.choice.model)
    messages: list[dict[str, Any]] = []
    user, assistant = Role.USER, Role.ASSISTANT
    for utterance in prompt.utterances:
        role = utterance.role
        # As nearly always it is a text alone, and of these there may be a hundred.
        if role is user and not utterance.parts:
            messages.append({"role": "user", "content": utterance.content})
        elif role is assistant and not utterance.tool_calls:
            messages.append({"role": "assistant", "content": utterance.content})
        else:
            messages += _messages(utterance, dialect)
    if prompt.system_prompt:
        messages.insert(0, {"role": dialect.system_role, "content": prompt.system_prompt})
    body: dict[str, Any] = {
        "model": prompt.choice.model,
        "messages": messages,
        dialect.cap: prompt.choice.max_output_tokens,
    }
    if dialect.tells_user:
        body["safety_identifier"] = prompt.end_user
    effort = facts.effort(prompt.effort)
    if effort is not None:
        body["reasoning_effort"] = effort
    if facts.samples(effort):
        body |= sampling_to_wire(prompt)
    if prompt.stop and facts.stop:
        body["stop"] = list(prompt.stop)
    if prompt.answer_format is not None:
        body["response_format"] = _format(prompt.answer_format)
    if prompt.tools:
        body |= tools_to_wire(prompt, _tool, _tool_choice)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def sampling_to_wire(prompt: Prompt) -> dict[str, float]:
    """What was asked for, and no default of our own."""
    asked = {"temperature": prompt.asked_temperature, "top_p": prompt.top_p}
    return {name: value for name, value in asked.items() if value is not None}


def _messages(utterance: Utterance, dialect: Dialect) -> list[dict[str, Any]]:
    match utterance.role:
        case Role.USER:
            return [{"role": "user", "content": _content(utterance)}]
        case Role.ASSISTANT:
            return [_assistant(utterance)]
        case Role.TOOL:
            return [
                {"role": "tool", "tool_call_id": result.call_id, "content": result.content}
                for result in utterance.tool_results
            ]
        case Role.SYSTEM:
            return [{"role": dialect.system_role, "content": utterance.content}]


def _assistant(utterance: Utterance) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": utterance.content}
    if utterance.tool_calls:
        message["content"] = utterance.content or None
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in utterance.tool_calls
        ]
    return message


def _content(utterance: Utterance) -> Any:
    if not utterance.parts:
        return utterance.content
    return parts_to_wire(utterance, "text", _image)


def parts_to_wire(
    utterance: Utterance, text_type: str, image: Callable[[ImagePart], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Texts and images in their order."""
    return [
        image(part) if isinstance(part, ImagePart) else {"type": text_type, "text": part.text}
        for part in utterance.ordered
    ]


def _image(image: ImagePart) -> dict[str, Any]:
    url = {"url": image_url(image)}
    return {
        "type": "image_url",
        "image_url": url | ({"detail": image.detail} if image.detail else {}),
    }


def image_url(image: ImagePart) -> str | None:
    """Its URL, or a data URL of its bytes."""
    if image.data is None:
        return image.url
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"


def tools_to_wire(
    prompt: Prompt,
    tool: Callable[[Tool], dict[str, Any]],
    choice: Callable[[ToolChoice], Any],
) -> dict[str, Any]:
    """What it may call, and whether it has to."""
    body: dict[str, Any] = {"tools": [tool(one) for one in prompt.tools]}
    if prompt.tool_choice is not None:
        body["tool_choice"] = choice(prompt.tool_choice)
    if prompt.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = prompt.parallel_tool_calls
    return body


def _tool(tool: Tool) -> dict[str, Any]:
    given = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    function = {name: value for name, value in given.items() if value is not None}
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> Any:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _format(wanted: AnswerFormat) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": schema_to_wire(wanted)}


def schema_to_wire(wanted: AnswerFormat) -> dict[str, Any]:
    """The schema with its name, which the vendor needs."""
    named = {"name": wanted.name or "answer", "schema": wanted.schema}
    return named | ({"strict": wanted.strict} if wanted.strict is not None else {})


def usage_of(document: Mapping[str, Any]) -> Usage | None:
    """Token counts, if they are told; every detail may be absent."""
    usage = mapping(document.get("usage"))
    if not are_told(usage, "prompt_tokens", "completion_tokens"):
        return None
    of_input = mapping(usage.get("prompt_tokens_details"))
    of_output = mapping(usage.get("completion_tokens_details"))
    return Usage(
        input_tokens=count(usage.get("prompt_tokens")),
        cache_read_tokens=count(of_input.get("cached_tokens")),
        cache_write_tokens=count(of_input.get("cache_write_tokens")),
        output_tokens=count(usage.get("completion_tokens")),
        output_reasoning_tokens=count(of_output.get("reasoning_tokens")),
        service_tier=as_name(document.get("service_tier")),
    )
