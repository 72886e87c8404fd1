"""Bodies of OpenAI's two interfaces.

https://platform.openai.com/docs/api-reference/chat, https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import orjson

from services.chat.api.data_url import SCHEME
from services.chat.api.dropin_call import (
    Body,
    Size,
    VendorCall,
    features_of,
    hash_of,
    items,
    one_of,
    own_tools,
    refuse,
)
from services.chat.api.dropin_door import AsItCame, data_event, named_event
from services.chat.api.fields import Fields, json_object
from services.chat.domain.errors import ItemNotKept, ToolNotOffered, UnsupportedParameter
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.turn import Surface
from shared.vendors.dropins import BadParameter

CHAT_PATH = "/v1/chat/completions"
RESPONSES_PATH = "/v1/responses"

# These run at the client; all others run at OpenAI, most of them for a price of their own.
_FUNCTIONS = frozenset({"function", "custom"})
_RESPONSES_TOOLS = _FUNCTIONS | {"local_shell", "apply_patch", "computer", "computer_use_preview"}
# With prices of their own. "auto" is whatever the user's project has, which only the answer tells.
_SERVICE_TIERS = ("flex", "priority", "fast")
# What lies at OpenAI, or is priced by other units than tokens of text.
_NOT_IN_CHAT = ("web_search_options", "audio")
_NOT_IN_RESPONSES = (
    *("background", "background_options", "conversation", "previous_response_id", "prompt"),
    "image",
)
# Also what a screen shows, and what a program drew.
_IMAGES = frozenset({"image_url", "input_image", "computer_screenshot", "image"})
_FILES = frozenset({"file", "input_file"})
_MEDIA = frozenset({"input_audio", "input_video"})
_ENCRYPTED = "reasoning.encrypted_content"
# Models that refuse to be asked for it.
_NOT_REASONING = ("gpt-3.5", "gpt-4", "chatgpt-")
# The chunk that only tells the usage.
_NO_CHOICES = re.compile(rb'"choices":\s*\[\s*\]')


def read_chat(body: bytes) -> VendorCall:
    """A chat completion. Raises Invalid."""
    fields = json_object(body)
    whole = dict(fields.whole)
    refuse(whole, *_NOT_IN_CHAT)
    _refuse_long_caching(whole, "prompt_cache_options")
    if any(kind != "text" for kind in fields.texts("modalities", 8)):
        raise UnsupportedParameter("modalities")
    _one_answer(fields, "n")
    has_tools = own_tools(fields.objects("tools"), _is_function)
    streamed = fields.flag("stream") or False
    options = fields.object("stream_options")
    size = _size_of_chat(whole)
    wants_usage = options is not None and options.flag("include_usage") is True
    caps = [fields.count("max_completion_tokens"), fields.count("max_tokens")]
    return VendorCall(
        surface=Surface.OPENAI,
        path=CHAT_PATH,
        model=fields.needed_text("model"),
        body=whole,
        govern=_govern_chat,
        framing=(lambda: AsItCame(data_event)) if wants_usage else WithoutUsage,
        request_hash=hash_of(CHAT_PATH.encode(), body),
        input_estimate=size.estimate,
        is_open=size.is_open,
        service_tier=one_of(whole.get("service_tier"), _SERVICE_TIERS),
        streamed=streamed,
        max_output_tokens=min((cap for cap in caps if cap is not None), default=None),
        features=features_of(
            size,
            has_tools,
            whole.get("functions"),
            reasons=_is_effort(whole.get("reasoning_effort")),
        ),
    )


def read_response(body: bytes) -> VendorCall:
    """A response. Raises Invalid."""
    fields = json_object(body)
    whole = dict(fields.whole)
    refuse(whole, *_NOT_IN_RESPONSES)
    _refuse_long_caching(whole, "prompt_cache_options")
    has_tools = own_tools(_tools_in_response(fields), _is_in_responses)
    reasoning = fields.object("reasoning")
    size = _size_of_response(whole)
    return VendorCall(
        surface=Surface.OPENAI,
        path=RESPONSES_PATH,
        model=fields.needed_text("model"),
        body=whole,
        govern=_govern_response,
        framing=NumberedEvents,
        request_hash=hash_of(RESPONSES_PATH.encode(), body),
        input_estimate=size.estimate,
        is_open=size.is_open,
        service_tier=one_of(whole.get("service_tier"), _SERVICE_TIERS),
        streamed=fields.flag("stream") or False,
        max_output_tokens=fields.count("max_output_tokens"),
        features=features_of(
            size, has_tools, reasons=reasoning is not None and _is_effort(reasoning.raw("effort"))
        ),
    )


def _govern_chat(body: Body, choice: ModelChoice, end_user: str) -> None:
    _govern(body, choice, end_user)
    # The older name of the same cap, which present models refuse.
    body.pop("max_tokens", None)
    body["max_completion_tokens"] = choice.max_output_tokens
    body.pop("store", None)  # not kept unless it is asked for
    if body.get("stream"):
        # Without it nobody could bill the answer.
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}


def _govern_response(body: Body, choice: ModelChoice, end_user: str) -> None:
    _govern(body, choice, end_user)
    body["max_output_tokens"] = choice.max_output_tokens
    body["store"] = False  # kept for a month unless it is refused
    if not choice.model.startswith(_NOT_REASONING):
        # So the client holds the whole of what it sends back, and nobody has to keep it.
        included = body.get("include") or []
        if isinstance(included, list) and _ENCRYPTED not in included:
            body["include"] = [*included, _ENCRYPTED]


def _govern(body: Body, choice: ModelChoice, end_user: str) -> None:
    body["model"] = choice.model
    body["safety_identifier"] = end_user
    body.pop("user", None)


def _refuse_long_caching(holder: Body, name: str) -> None:
    """What is cached for longer than half an hour is written at another price, which nothing here
    tells apart. Raises UnsupportedParameter."""
    options = holder.get(name)
    if isinstance(options, dict) and options.get("ttl") not in (None, "30m"):
        raise UnsupportedParameter(f"{name}.ttl")


def _one_answer(fields: Fields, name: str) -> None:
    if fields.count(name) not in (None, 1):
        raise BadParameter(name, "1, or absent")


def _tools_in_response(fields: Fields) -> Iterator[Fields]:
    """Also those that items of the input add."""
    yield from fields.objects("tools")
    given = fields.raw("input")
    for number, item in enumerate(given if isinstance(given, list) else ()):
        if isinstance(item, dict) and "tools" in item:
            yield from Fields(item, f"input[{number}].").objects("tools")


def _is_function(tool: Fields) -> bool:
    return tool.text("type") in _FUNCTIONS


def _is_in_responses(tool: Fields) -> bool:
    kind = tool.text("type")
    if kind == "namespace":
        own_tools(tool.objects("tools"), _is_function)
        return True
    if kind == "shell":
        environment = tool.object("environment")
        if environment is None or environment.text("type") != "local":
            raise ToolNotOffered(tool.place, unless="its environment is of the type local")
        return True
    if kind == "tool_search":
        if tool.text("execution") != "client":
            raise ToolNotOffered(tool.place, unless="its execution is client")
        return True
    return kind in _RESPONSES_TOOLS


def _is_effort(value: Any) -> bool:
    return value not in (None, "none")


def _size_of_chat(body: Mapping[str, Any]) -> Size:
    size = Size()
    for number, message in enumerate(items(body.get("messages"))):
        size.messages += 1
        size.add_text(message)
        for part in items(message.get("content")):
            _measure_part(part, size, f"messages[{number}].content")
    size.add_schema(body.get("tools"))
    size.add_schema(body.get("functions"))
    size.add_schema(body.get("response_format"))
    return size


def _size_of_response(body: Mapping[str, Any]) -> Size:
    size = Size()
    given = body.get("input")
    size.add_text(body.get("instructions"), given)
    size.messages = 1
    for number, item in enumerate(items(given)):
        size.messages += 1
        if _is_named_alone(item):
            raise ItemNotKept(f"input[{number}]")
        if item.get("type") == "image_generation_call" and item.get("result"):
            size.add_image(item["result"])
        for name in ("content", "output", "outputs"):
            if (held := item.get(name)) is not None:
                for part in items([held] if isinstance(held, dict) else held):
                    _measure_part(part, size, f"input[{number}].{name}")
    size.add_schema(body.get("tools"))
    size.add_schema(body.get("text"))
    return size


def _is_named_alone(item: Body) -> bool:
    """Whether it can only be found by its id: of reasoning, what counts is encrypted."""
    kind = item.get("type")
    named = kind == "reasoning" and item.get("id") and not item.get("encrypted_content")
    return bool(named) or kind == "item_reference"


def _measure_part(part: Body, size: Size, place: str) -> None:
    """What a part of a message holds beside text. Files that lie at OpenAI, and sound, are not
    offered: nobody here knows how many tokens they are, or what they cost."""
    _refuse_long_caching(part, "prompt_cache_breakpoint")
    kind = part.get("type")
    kind = kind if isinstance(kind, str) else ""
    if kind in _MEDIA or _file_id_in(part):
        raise UnsupportedParameter(place)
    if kind in _IMAGES:
        image = part.get("image_url") or part.get("url")
        url = image.get("url") if isinstance(image, dict) else image
        size.add_image(url if isinstance(url, str) and url.startswith(SCHEME) else None)
    elif kind in _FILES:
        inner = part.get("file")
        file = inner if isinstance(inner, dict) else part
        if file.get("file_url"):
            size.add_fetched_file()
        if file.get("file_data") or not file.get("file_url"):
            size.add_file(file.get("file_data"))


def _file_id_in(part: Body) -> bool:
    inner = part.get("file")
    return bool(part.get("file_id") or (isinstance(inner, dict) and inner.get("file_id")))


class NumberedEvents:
    """A stream of events that is passed on unchanged; the one that tells a failure has the number
    after the last."""

    media_type = None

    def __init__(self) -> None:
        self._last = b""

    def shown(self, data: bytes) -> bytes:
        if b'"sequence_number"' in data:
            self._last = data
        return data

    def failed(self, document: Mapping[str, Any]) -> bytes:
        error = document["error"]
        flat = {name: error.get(name) for name in ("code", "message", "param")}
        number = _last_number(self._last) + 1
        return named_event(
            "error", {"type": "error", **flat, "sequence_number": number, "error": error}
        )

    def end(self) -> bytes:
        return b""


def _last_number(events: bytes) -> int:
    """That of the last event which has one; -1 where none has."""
    for line in reversed(events.splitlines()):
        if line.startswith(b"data:"):
            with suppress(orjson.JSONDecodeError):
                event = orjson.loads(line[5:])
                number = event.get("sequence_number") if isinstance(event, dict) else None
                if isinstance(number, int):
                    return number
    return -1


class WithoutUsage:
    """A stream of chunks without the last one that tells the usage, which its client did not ask
    for and may not expect: it has no choices."""

    media_type = None

    def shown(self, data: bytes) -> bytes:
        if not _NO_CHOICES.search(data):
            return data
        events = data.split(b"\n\n")
        return b"\n\n".join(event for event in events if not _tells_usage(event))

    def failed(self, error: Mapping[str, Any]) -> bytes:
        return data_event(error)

    def end(self) -> bytes:
        return b""


def _tells_usage(event: bytes) -> bool:
    if not (event.startswith(b"data:") and _NO_CHOICES.search(event)):
        return False
    try:
        chunk = orjson.loads(event[5:])
    except orjson.JSONDecodeError:
        return False
    return isinstance(chunk, dict) and chunk.get("choices") == [] and bool(chunk.get("usage"))
