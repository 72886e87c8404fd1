"""A question as clients ask it, the same through every door of a chat session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from services.chat.api.data_url import SCHEME, NotBase64, read_base64, read_data_url
from services.chat.domain.content import (
    AnswerFormat,
    Effort,
    ImagePart,
    Tool,
    ToolChoice,
    ToolResult,
)
from services.chat.domain.conversation import MessageId, SessionId
from services.chat.domain.errors import (
    BadAttachment,
    BadSchema,
    BadTool,
    QuestionEmpty,
    SpeakNeedsStream,
)
from services.chat.domain.images import (
    MOST_IMAGES,
    check_images,
    media_type_of,
    registered_type,
)
from services.chat.domain.question import Question
from services.chat.domain.speaking import SpeakWish
from services.chat.domain.tool_rules import MOST_TOOLS, check_schema, check_tools
from shared.errors import require_storable
from shared.http.caller import Caller, on_behalf_of

_MOST_CHARACTERS = 200_000

Content = Annotated[str, StringConstraints(max_length=_MOST_CHARACTERS)]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class ImageBody(BaseModel):
    """An image: base64, a data URL, or an https URL that the vendor fetches. The media type may be
    left out: the first bytes tell it."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["image"] = "image"
    data: str | None = None
    media_type: Annotated[str, Field(max_length=100)] | None = None
    url: str | None = None


class ToolBody(BaseModel):
    """A function that the model may call; `parameters` is a JSON schema of an object."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: Annotated[str, Field(max_length=4_000)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedTool(BaseModel):
    """This tool must be called."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=64)]


class NewToolResult(BaseModel):
    """What a tool said to a call of the answer before."""

    model_config = ConfigDict(extra="forbid")

    call_id: Annotated[str, Field(min_length=1, max_length=200)]
    content: Content
    failed: bool = False


class AnswerFormatBody(BaseModel):
    """The answer has to be JSON, by a schema if there is one."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    type: Literal["text", "json", "json_schema"]
    json_schema: dict[str, Any] | None = Field(None, alias="schema")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    strict: bool | None = None


_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class SpeakSettings(BaseModel):
    """How the voice should speak; what is left out has its default. As for `POST /voice/speech`."""

    model_config = ConfigDict(extra="forbid")

    stability: _Share | None = None
    similarity_boost: _Share | None = None
    style: _Share | None = None
    use_speaker_boost: bool | None = None
    speed: Annotated[float, Field(ge=0.7, le=1.2, allow_inf_nan=False)] | None = None


class SpeakBody(BaseModel):
    """Whom you want to hear the answer from, and how. As for `POST /voice/speech`; the model is by
    default one that is made for this."""

    model_config = ConfigDict(extra="forbid")

    voice_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    model: Annotated[str, Field(max_length=64, pattern=_PLAIN_NAME)] | None = None
    format: Annotated[str, Field(max_length=32, pattern=_PLAIN_NAME)] | None = None
    settings: SpeakSettings | None = None

    def to_wish(self) -> SpeakWish:
        settings = self.settings.model_dump(exclude_none=True) if self.settings else {}
        return SpeakWish(self.voice_id, self.model, self.format, settings)


class HowToAnswer(BaseModel):
    """Who answers and how: by default the session's provider, with its first model of the tier."""

    model_config = ConfigDict(extra="forbid")

    provider: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    model: Name | None = None
    stream: bool = False
    # Made by a factory, since pydantic copies a default deeply.
    tools: list[ToolBody] = Field(default_factory=list, max_length=MOST_TOOLS)
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    effort: Effort | None = None
    answer_format: AnswerFormatBody | None = None
    speak: Annotated[
        StrictBool | SpeakBody | None,
        Field(description="Speak the answer while it is written; with `true` by your own voice."),
    ] = None

    @property
    def speak_wish(self) -> SpeakWish | None:
        """Raises SpeakNeedsStream."""
        if not self.speak:
            return None
        if not self.stream:
            raise SpeakNeedsStream
        return SpeakWish() if self.speak is True else self.speak.to_wish()


Attachments: TypeAlias = Annotated[list[ImageBody], Field(max_length=MOST_IMAGES)]


class NewMessage(HowToAnswer):
    """A question to the session's provider, or to another one for this turn; or the results of the
    tools that the last answer called."""

    content: Content
    attachments: Attachments = Field(default_factory=list)
    tool_results: list[NewToolResult] = Field(default_factory=list, max_length=MOST_TOOLS)


class EditedMessage(HowToAnswer):
    """The question in other words. Without `attachments` it keeps those it had."""

    content: Content
    attachments: Attachments | None = None


def question_of(
    session_id: SessionId, body: NewMessage, caller: Caller, idempotency_key: str | None
) -> Question:
    """What the caller asks, on this request's behalf; the same for a socket. Raises QuestionEmpty,
    UnstorableText, BadAttachment, BadTool, BadSchema or SpeakNeedsStream."""
    if not (body.content.strip() or body.attachments or body.tool_results):
        raise QuestionEmpty
    require_storable("content", body.content)
    for number, result in enumerate(body.tool_results):
        require_storable(f"tool_results.{number}.content", result.content)
    return _question(
        session_id,
        body,
        caller,
        idempotency_key,
        content=body.content if body.content.strip() else "",
        images=images_of(body.attachments),
        tool_results=tuple(
            ToolResult(result.call_id, result.content, failed=result.failed)
            for result in body.tool_results
        ),
    )


def edit_of(
    session_id: SessionId,
    message_id: UUID,
    body: EditedMessage,
    caller: Caller,
    idempotency_key: str | None,
) -> Question:
    """The question that takes the place of another one. Raises what `question_of` does."""
    if not body.content.strip():
        raise QuestionEmpty
    require_storable("content", body.content)
    return _question(
        session_id,
        body,
        caller,
        idempotency_key,
        content=body.content,
        images=None if body.attachments is None else images_of(body.attachments),
        edits=MessageId(message_id),
    )


def repeat_of(
    session_id: SessionId,
    message_id: UUID,
    body: HowToAnswer,
    caller: Caller,
    idempotency_key: str | None,
) -> Question:
    """The same question again. Raises what `question_of` does."""
    return _question(
        session_id,
        body,
        caller,
        idempotency_key,
        content="",
        answers_again=MessageId(message_id),
    )


def _question(
    session_id: SessionId,
    body: HowToAnswer,
    caller: Caller,
    idempotency_key: str | None,
    *,
    content: str,
    images: Sequence[ImagePart] | None = None,
    tool_results: Sequence[ToolResult] = (),
    answers_again: MessageId | None = None,
    edits: MessageId | None = None,
) -> Question:
    tools = tuple(
        Tool(tool.name, tool.description, tool.parameters, tool.strict) for tool in body.tools
    )
    check_tools(tools)
    return Question(
        session_id=session_id,
        content=content,
        tier=caller.tier,
        by=on_behalf_of(caller),
        provider=body.provider,
        model=body.model,
        stream=body.stream,
        idempotency_key=idempotency_key,
        images=images,
        tools=tools,
        tool_choice=_tool_choice(body.tool_choice, tools),
        tool_results=tool_results,
        temperature=body.temperature,
        effort=body.effort,
        answer_format=_answer_format(body.answer_format),
        answers_again=answers_again,
        edits=edits,
        speak=body.speak_wish,
    )


def _tool_choice(
    choice: Literal["auto", "none", "required"] | NamedTool | None, tools: Sequence[Tool]
) -> ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, NamedTool):
        if choice.name not in {tool.name for tool in tools}:
            raise BadTool("The chosen tool is none of the tools.")
        return ToolChoice("named", choice.name)
    if choice == "required" and not tools:
        raise BadTool("Without tools none can be required.")
    return ToolChoice(choice)


def _answer_format(body: AnswerFormatBody | None) -> AnswerFormat | None:
    if body is None or body.type == "text":
        return None
    if body.type == "json":
        return AnswerFormat()
    if body.json_schema is None:
        raise BadSchema("An answer by schema needs the schema.", "answer_format")
    check_schema(body.json_schema, "answer_format")
    return AnswerFormat(body.json_schema, body.name, body.strict)


def images_of(bodies: Sequence[ImageBody]) -> tuple[ImagePart, ...]:
    """The images, each with its bytes or its URL. Raises BadAttachment."""
    images = [_image(body, number) for number, body in enumerate(bodies, 1)]
    check_images(images)
    return tuple(images)


def _image(body: ImageBody, number: int) -> ImagePart:
    if (body.data is None) == (body.url is None):
        raise BadAttachment("An image has either data or a URL.", number)
    if body.url is not None and not body.url.startswith(SCHEME):
        return ImagePart(url=body.url)
    said = None if body.media_type is None else registered_type(body.media_type)
    return _with_bytes(body.url or body.data or "", said, number)


def _with_bytes(data: str, media_type: str | None, number: int) -> ImagePart:
    try:
        if not data.startswith(SCHEME):
            content = read_base64(data)
            return ImagePart(media_type or media_type_of(content), content)
        found = read_data_url(data)
    except NotBase64 as error:
        raise BadAttachment("The data is no base64.", number) from error
    if found is None or media_type not in (None, found.media_type):
        raise BadAttachment("A data URL is data:<media type>;base64,<data>.", number)
    return ImagePart(found.media_type or media_type_of(found.content), found.content)
