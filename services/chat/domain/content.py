"""What a conversation is made of as a vendor gets to see it, in no vendor's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from shared.values import dataclass


class Role(StrEnum):
    """Who speaks. `tool`: the results of the tools that the assistant called."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text among other parts."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image: its bytes with their media type, or an https URL that the vendor fetches itself."""

    media_type: str | None = None
    data: bytes | None = None
    url: str | None = None
    detail: str | None = None  # OpenAI's wish for resolution: auto, low, high, original


ContentPart: TypeAlias = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model wants a tool run. `arguments` is JSON text as the model wrote it; `signature` is an
    opaque mark that its vendor wants back unchanged (Gemini's thoughtSignature)."""

    id: str
    name: str
    arguments: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool said."""

    call_id: str
    content: str
    name: str | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Thought:
    """An opaque block of a vendor's reasoning, which it wants back unchanged with the tool results
    (Anthropic's thinking blocks, OpenAI's reasoning items); no other vendor gets to see it."""

    provider: str
    block: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Utterance:
    """A turn of the conversation. `parts` holds the content in its order when it is more than one
    text; `content` then is its text alone."""

    role: Role
    content: str
    parts: Sequence[ContentPart] = ()
    tool_calls: Sequence[ToolCall] = ()
    tool_results: Sequence[ToolResult] = ()
    thoughts: Sequence[Thought] = ()

    @property
    def is_more_than_text(self) -> bool:
        return bool(self.parts or self.tool_calls or self.tool_results or self.thoughts)

    @property
    def images(self) -> Sequence[ImagePart]:
        return [part for part in self.parts if isinstance(part, ImagePart)]

    @property
    def ordered(self) -> Sequence[ContentPart]:
        """The content as parts, also when it is one text."""
        if self.parts:
            return self.parts
        return [TextPart(self.content)] if self.content else []


def asked_as(
    content: str, images: Sequence[ImagePart] = (), tool_results: Sequence[ToolResult] = ()
) -> list[Utterance]:
    """A question as the vendor gets it: the tools' results, then images, then the text."""
    said = [Utterance(Role.TOOL, "", tool_results=tool_results)] if tool_results else []
    if images:
        text = [TextPart(content)] if content else []
        said.append(Utterance(Role.USER, content, parts=(*images, *text)))
    elif content or not tool_results:
        said.append(Utterance(Role.USER, content))
    return said


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model must call a tool, and which: `named` needs `name`."""

    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The answer has to be JSON; by a schema, if there is one."""

    schema: Mapping[str, Any] | None = None
    name: str | None = None
    strict: bool | None = None


Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
