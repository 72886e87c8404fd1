"""OpenAI's Responses: https://platform.openai.com/docs/api-reference/responses

Nothing is stored at OpenAI: each request brings the whole conversation, and the model's own
reasoning comes back to it sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.chat.domain.content import (
    AnswerFormat,
    ImagePart,
    Role,
    Thought,
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
    Thoughts,
    ToolCallPiece,
)
from services.chat.domain.turn import Prompt
from services.chat.domain.usage import Usage
from services.chat.providers._chat_completions import (
    EventLines,
    began,
    image_url,
    parts_to_wire,
    sampling_to_wire,
    schema_to_wire,
    tools_to_wire,
)
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
    storable,
    text,
)
from services.chat.providers._stopping import stopping
from services.chat.providers._wire import Reader, WireRequest
from shared.lenient_json import to_json
from shared.vendors.failures import VendorFailed

PATH = "/v1/responses"
PROVIDER = "openai"

_INCOMPLETE: Mapping[str, FinishReason] = {
    "max_output_tokens": "length",
    "content_filter": "content_filter",
}
# What calls of tools that run at the client hold of what is asked of them. We ask for functions
# alone; clients of the vendor's own interface may ask for all.
_GIVEN: Mapping[str, Sequence[str]] = {
    "function_call": ["arguments"],
    "custom_tool_call": ["input"],
    "local_shell_call": ["action"],
    "shell_call": ["action"],
    "apply_patch_call": ["operation"],
    "computer_call": ["actions", "action"],
    "tool_search_call": ["arguments"],
}
_ANY_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}


def request(prompt: Prompt, facts: ModelFacts, refusals: Refusals, *, stream: bool) -> WireRequest:
    """The prompt, with a reader of its answer. The wire knows no stop sequences, so that the reader
    looks for them."""

    def new_reader() -> Reader:
        return stopping(reader(refusals, streamed=stream), prompt.stop)

    return WireRequest(PATH, to_wire(prompt, facts, stream=stream), new_reader)


def reader(refusals: Refusals, *, streamed: bool) -> Reader:
    """A reader of an answer."""
    if streamed:
        lines = EventLines(PROVIDER)
        return DocumentReader(PROVIDER, lines, EventAnswer(refusals))
    return DocumentReader(PROVIDER, WholeBody(PROVIDER), ResponseAnswer(refusals))


def thoughts_of(prompt: Prompt) -> Sequence[Thought]:
    """The model's reasoning since the user spoke last. Older blocks help no more, and a key of
    another account could not open them."""
    later = prompt.utterances[_after_the_user(prompt) :]
    return [thought for utterance in later for thought in _own(utterance)]


class EventAnswer:
    """What `response.*` events add up to; unknown ones are passed over."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._began = False
        self._said = False
        self._refused = False
        self._calls: dict[str, int] = {}
        self._with_arguments: set[str] = set()
        self._thoughts: list[Thought] = []
        self._ended = False
        self._events: Mapping[str, Callable[[Mapping[str, Any]], Iterable[Frame]]] = {
            "response.created": self._begin,
            "response.in_progress": self._begin,
            "response.queued": self._begin,
            "response.output_text.delta": _say,
            "response.refusal.delta": self._refuse,
            "response.reasoning_summary_text.delta": _think,
            "response.reasoning_text.delta": _think,
            "response.output_item.added": self._open_item,
            "response.function_call_arguments.delta": self._add_arguments,
            "response.function_call_arguments.done": self._complete_arguments,
            "response.custom_tool_call_input.delta": self._add_arguments,
            "response.custom_tool_call_input.done": self._complete_input,
            "response.output_item.done": self._close_item,
            "response.completed": self._end,
            "response.incomplete": self._end,
            "response.failed": self._fail,
            "response.cancelled": self._fail,
            "error": self._tell_error,
        }

    def take(self, document: Mapping[str, Any]) -> Iterator[Frame]:
        read = self._events.get(text(document.get("type")))
        if read is None or self._ended:
            return
        for frame in read(document):
            self._said = self._said or not isinstance(frame, Began)
            yield frame

    def end(self) -> Iterable[Frame]:
        if not self._ended:
            raise VendorFailed(PROVIDER)
        return ()

    def _begin(self, event: Mapping[str, Any]) -> Iterator[Frame]:
        if not self._began:
            self._began = True
            yield began(mapping(event.get("response")))

    def _refuse(self, event: Mapping[str, Any]) -> Iterable[Frame]:
        self._refused = True
        return _say(event)

    def _open_item(self, event: Mapping[str, Any]) -> Iterator[Frame]:
        item = mapping(event.get("item"))
        if _is_call(item):
            call = self._calls[_place(event)] = len(self._calls)
            yield _named(item, call)
            yield from self._complete_arguments({**event, **item})

    def _add_arguments(self, event: Mapping[str, Any]) -> Iterator[Frame]:
        call, piece = self._calls.get(_place(event)), text(event.get("delta"))
        if call is not None and piece:
            self._with_arguments.add(_place(event))
            yield ToolCallPiece(call, arguments=piece)

    def _complete_arguments(self, event: Mapping[str, Any]) -> Iterable[Frame]:
        return self._complete(event, event.get("arguments"))

    def _complete_input(self, event: Mapping[str, Any]) -> Iterable[Frame]:
        return self._complete(event, event.get("input"))

    def _complete(self, event: Mapping[str, Any], given: Any) -> Iterable[Frame]:
        """All that is asked of a tool at once, which matters where it did not come in pieces."""
        if _place(event) in self._with_arguments:
            return ()
        return self._add_arguments({**event, "delta": given})

    def _close_item(self, event: Mapping[str, Any]) -> Iterator[Frame]:
        item = mapping(event.get("item"))
        if thought := _thought(item):
            self._thoughts.append(thought)
        if _is_call(item):
            if _place(event) not in self._calls:
                yield from self._open_item(event)
            yield from self._complete(event, _given(item))

    def _end(self, event: Mapping[str, Any]) -> Iterator[Frame]:
        yield from self._begin(event)
        self._ended = True
        if self._thoughts:
            yield Thoughts(tuple(self._thoughts))
        response = mapping(event.get("response"))
        yield _ended(response, calls=len(self._calls), refused=self._refused)

    def _fail(self, event: Mapping[str, Any]) -> Iterator[Frame]:
        response, said = mapping(event.get("response")), self._said
        usage = _usage(response)
        # What was said before the failure is charged, and here we are told how much.
        if said and usage is not None:
            yield Ended("other", usage, why="failed")
        raise self._refusals.within(response.get("error"), said=said or usage is not None)

    def _tell_error(self, event: Mapping[str, Any]) -> Iterable[Frame]:
        raise self._refusals.within(event.get("error") or event, said=self._said)


class ResponseAnswer:
    """One `response`."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._is_there = False

    def take(self, document: Mapping[str, Any]) -> Iterator[Frame]:
        output = rows(document.get("output"))
        if document.get("status") not in ("completed", "incomplete"):
            raise self._refusals.within(document.get("error"), said=bool(output))
        self._is_there = True
        yield began(document)
        calls, refused = 0, False
        for item in output:
            if _is_call(item):
                yield replace(_named(item, calls), arguments=_given(item))
                calls += 1
            yield from _shown(item)
            for part in _parts(item):
                refused = refused or part.get("type") == "refusal"
                if said := text(part.get("text")) or text(part.get("refusal")):
                    yield Text(said)
        if thoughts := [thought for item in output if (thought := _thought(item))]:
            yield Thoughts(tuple(thoughts))
        yield _ended(document, calls=calls, refused=refused)

    def end(self) -> Iterable[Frame]:
        if not self._is_there:
            raise VendorFailed(PROVIDER)
        return ()


def _say(event: Mapping[str, Any]) -> Iterable[Frame]:
    said = text(event.get("delta"))
    return [Text(said)] if said else ()


def _think(event: Mapping[str, Any]) -> Iterable[Frame]:
    thinking = text(event.get("delta"))
    return [Thinking(thinking)] if thinking else ()


def _place(event: Mapping[str, Any]) -> str:
    """What names an item within one answer."""
    return f"{event.get('output_index')}"


def _is_call(item: Mapping[str, Any]) -> bool:
    return text(item.get("type")) in _GIVEN


def _given(item: Mapping[str, Any]) -> str:
    names = _GIVEN[text(item.get("type"))]
    given = next((item[name] for name in names if item.get(name)), None)
    return to_json(given).decode() if isinstance(given, dict | list) else text(given)


def _named(item: Mapping[str, Any], call: int) -> ToolCallPiece:
    return ToolCallPiece(call, text(item.get("call_id")) or None, text(item.get("name")) or None)


def _parts(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if item.get("type") != "message":
        return []
    parts = rows(item.get("content"))
    return [part for part in parts if part.get("type") in ("output_text", "refusal")]


def _shown(item: Mapping[str, Any]) -> Iterator[Frame]:
    """What is shown of the model's reasoning."""
    if item.get("type") == "reasoning":
        for part in (*rows(item.get("summary")), *rows(item.get("content"))):
            if thinking := text(part.get("text")):
                yield Thinking(thinking)


def _thought(item: Mapping[str, Any]) -> Thought | None:
    """What the model wants back: its reasoning, unchanged, and the phase that a message is of."""
    if item.get("type") == "reasoning":
        return Thought(PROVIDER, storable(item))
    if item.get("type") == "message" and (phase := text(item.get("phase"))):
        return Thought(PROVIDER, {"type": "message", "phase": phase})
    return None


def _ended(response: Mapping[str, Any], *, calls: int, refused: bool) -> Ended:
    usage = _usage(response)
    if response.get("status") == "incomplete":
        details = mapping(response.get("incomplete_details"))
        why = text(details.get("reason")) or None
        return Ended(_INCOMPLETE.get(why or "", "other"), usage, why=why)
    return Ended("tool_calls" if calls else "stop", usage, why="refusal" if refused else None)


def _usage(response: Mapping[str, Any]) -> Usage | None:
    usage = mapping(response.get("usage"))
    if not are_told(usage, "input_tokens", "output_tokens"):
        return None
    of_input = mapping(usage.get("input_tokens_details"))
    of_output = mapping(usage.get("output_tokens_details"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")),
        cache_read_tokens=count(of_input.get("cached_tokens")),
        cache_write_tokens=count(of_input.get("cache_write_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        output_reasoning_tokens=count(of_output.get("reasoning_tokens")),
        service_tier=as_name(response.get("service_tier")),
    )


def to_wire(prompt: Prompt, facts: ModelFacts, *, stream: bool) -> dict[str, Any]:
    """The request body."""
    fresh = _after_the_user(prompt)
    body: dict[str, Any] = {
        "model": prompt.choice.model,
        "input": [
            item
            for place, utterance in enumerate(prompt.utterances)
            for item in _items(utterance, with_thoughts=place >= fresh)
        ],
        "max_output_tokens": prompt.choice.max_output_tokens,
        "safety_identifier": prompt.end_user,
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    if prompt.system_prompt:
        body["instructions"] = prompt.system_prompt
    effort = facts.effort(prompt.effort)
    if effort is not None:
        body["reasoning"] = {"effort": effort}
    if facts.samples(effort):
        body |= sampling_to_wire(prompt)
    if prompt.answer_format is not None:
        body["text"] = {"format": _format(prompt.answer_format)}
    if prompt.tools:
        body |= tools_to_wire(prompt, _tool, _tool_choice)
    if stream:
        body["stream"] = True
    return body


def _after_the_user(prompt: Prompt) -> int:
    """The place behind the user's last words."""
    user, utterances = Role.USER, prompt.utterances
    place = len(utterances)
    while place and utterances[place - 1].role is not user:
        place -= 1
    return place


def _own(utterance: Utterance) -> list[Thought]:
    own = [thought for thought in utterance.thoughts if thought.provider == PROVIDER]
    return [thought for thought in own if not _is_named_alone(thought.block)]


def _is_named_alone(item: Mapping[str, Any]) -> bool:
    """Whether it is reasoning that only its id stands for, which the vendor keeps nothing of."""
    is_named = item.get("type") == "reasoning" and bool(item.get("id"))
    return is_named and not item.get("encrypted_content")


def _items(utterance: Utterance, *, with_thoughts: bool) -> list[dict[str, Any]]:
    match utterance.role:
        case Role.TOOL:
            return [
                {
                    "type": "function_call_output",
                    "call_id": result.call_id,
                    "output": result.content,
                }
                for result in utterance.tool_results
            ]
        case Role.ASSISTANT:
            return _assistant(utterance, _own(utterance) if with_thoughts else [])
        case Role.SYSTEM:
            return [{"role": "developer", "content": utterance.content}]
        case Role.USER:
            return [{"role": "user", "content": _content(utterance)}]


def _assistant(utterance: Utterance, thoughts: Sequence[Thought]) -> list[dict[str, Any]]:
    """As it was answered: the reasoning, what it led to, the calls."""
    items = [dict(t.block) for t in thoughts if t.block.get("type") == "reasoning"]
    if utterance.content:
        phases = [t.block["phase"] for t in thoughts if t.block.get("type") == "message"]
        phase = {"phase": phases[-1]} if phases else {}
        items.append({"role": "assistant", "content": utterance.content, **phase})
    items += [
        {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        for call in utterance.tool_calls
    ]
    return items


def _content(utterance: Utterance) -> Any:
    if not utterance.images:
        return utterance.content
    return parts_to_wire(utterance, "input_text", _image)


def _image(image: ImagePart) -> dict[str, Any]:
    return {
        "type": "input_image",
        "image_url": image_url(image),
        "detail": image.detail or "auto",
    }


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description is not None else {}
    return {
        "type": "function",
        "name": tool.name,
        **described,
        "parameters": tool.parameters or _ANY_ARGUMENTS,
        # Here a tool is strict unless it says otherwise, which not every schema allows.
        "strict": bool(tool.strict),
    }


def _tool_choice(choice: ToolChoice) -> Any:
    return {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode


def _format(wanted: AnswerFormat) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", **schema_to_wire(wanted)}
