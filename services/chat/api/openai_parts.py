"""What OpenAI's two interfaces have in common in a request."""

from __future__ import annotations

import re
from typing import get_args

from services.chat.api.data_url import NotBase64, read_data_url
from services.chat.api.fields import Fields
from services.chat.domain.content import (
    AnswerFormat,
    ContentPart,
    Effort,
    ImagePart,
    TextPart,
    Tool,
    ToolChoice,
)
from services.chat.domain.errors import UnsupportedParameter
from services.chat.domain.images import IMAGE_TYPES

EFFORTS = frozenset(get_args(Effort))
_DETAILS = ("auto", "low", "high", "original")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_MOST_TOOLS = 128
_MOST_IMAGES = 50


def refuse(fields: Fields, *names: str) -> None:
    """Raises UnsupportedParameter for a field that would change what is answered or what it costs
    and that is not offered."""
    for name in names:
        if fields.raw(name) not in (None, False, [], {}):
            raise UnsupportedParameter(name)


def content_parts(fields: Fields, name: str, text_types: tuple[str, ...]) -> list[ContentPart]:
    """A content that is a text or a list of parts."""
    if isinstance(fields.raw(name), str):
        return [TextPart(fields.raw(name))]
    parts = [_part(part, text_types) for part in fields.objects(name)]
    if sum(isinstance(part, ImagePart) for part in parts) > _MOST_IMAGES:
        raise fields.wrong(name, f"no more than {_MOST_IMAGES} images")
    return parts


def text_of(parts: list[ContentPart]) -> str:
    """The text alone."""
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def text_alone(fields: Fields, name: str, text_types: tuple[str, ...]) -> str:
    """A content that is text. Raises BadParameter for an image, which no model would get to see
    there."""
    parts = content_parts(fields, name, text_types)
    if any(isinstance(part, ImagePart) for part in parts):
        raise fields.wrong(name, "text alone: images stand in what the user says")
    return text_of(parts)


def _part(part: Fields, text_types: tuple[str, ...]) -> ContentPart:
    kind = part.needed_text("type")
    if kind in text_types:
        return TextPart(part.text("text") or "")
    if kind == "image_url":
        if isinstance(part.raw("image_url"), str):
            return _image(part, "image_url", None)
        image = part.needed_object("image_url")
        return _image(image, "url", image.word("detail", _DETAILS))
    if kind == "input_image":
        return _image(part, "image_url", part.word("detail", _DETAILS))
    if kind == "refusal":
        return TextPart(part.text("refusal") or "")
    raise part.wrong("type", "text or an image: files and sound are not offered")


def _image(fields: Fields, name: str, detail: str | None) -> ImagePart:
    url = fields.needed_text(name)
    if url.startswith("https://"):
        return ImagePart(url=url, detail=detail)
    try:
        found = read_data_url(url)
    except NotBase64 as error:
        raise fields.wrong(name, "base64 behind the comma") from error
    if found is None or found.media_type not in IMAGE_TYPES:
        raise fields.wrong(name, "an https URL or a data URL of a PNG, JPEG, GIF or WebP image")
    return ImagePart(found.media_type, found.content, detail=detail)


def tool_of(function: Fields) -> Tool:
    """A function as both interfaces describe it."""
    name = function.needed_text("name")
    if not _TOOL_NAME.match(name):
        raise function.wrong("name", "up to 64 letters, digits, dashes and underscores")
    parameters = function.object("parameters")
    if parameters is not None and parameters.raw("type") not in (None, "object"):
        raise function.wrong("parameters", "a JSON schema of an object")
    return Tool(
        name,
        function.text("description"),
        parameters.whole if parameters is not None else None,
        function.flag("strict"),
    )


def tools_of(fields: Fields, *, nested: bool) -> tuple[Tool, ...]:
    """The offered functions. `nested`: Chat Completions wraps each in `function`."""
    tools = []
    for tool in fields.objects("tools"):
        if tool.needed_text("type") != "function":
            raise tool.wrong("type", "function: neither custom tools nor the vendor's are offered")
        tools.append(tool_of(tool.needed_object("function") if nested else tool))
    if len(tools) > _MOST_TOOLS:
        raise fields.wrong("tools", f"no more than {_MOST_TOOLS} functions")
    return tuple(tools)


def tool_choice_of(fields: Fields, tools: tuple[Tool, ...], *, nested: bool) -> ToolChoice | None:
    """Whether a tool must be called, and which."""
    value = fields.raw("tool_choice")
    if value is None:
        return None
    if value in ("auto", "none", "required"):
        return ToolChoice(value)
    choice = fields.needed_object("tool_choice")
    if choice.raw("type") != "function":
        raise fields.wrong("tool_choice", "auto, none, required or a function")
    name = (choice.needed_object("function") if nested else choice).needed_text("name")
    if name not in {tool.name for tool in tools}:
        raise fields.wrong("tool_choice", "the name of an offered function")
    return ToolChoice("named", name)


def format_of(fields: Fields | None, *, nested: bool) -> AnswerFormat | None:
    """The form that the answer must have; None for plain text."""
    kind = fields.text("type") if fields is not None else None
    if fields is None or kind in (None, "text"):
        return None
    if kind == "json_object":
        return AnswerFormat()
    if kind != "json_schema":
        raise fields.wrong("type", "text, json_object or json_schema")
    described = fields.needed_object("json_schema") if nested else fields
    return AnswerFormat(
        described.needed_object("schema").whole,
        described.text("name"),
        described.flag("strict"),
    )
