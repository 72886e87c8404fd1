"""A question to a chat session, as it came through the door."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from services.chat.domain.content import (
    AnswerFormat,
    Effort,
    ImagePart,
    Tool,
    ToolChoice,
    ToolResult,
)
from services.chat.domain.conversation import MessageId, SessionId
from services.chat.domain.speaking import SpeakWish
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.tiers import Tier
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asks, and how they want the answer.

    `answers_again` names a question, or an answer to it, that is to be answered anew; `edits` a
    question that is asked in other words. Without `images` an edited one keeps those it had.
    """

    session_id: SessionId
    content: str
    tier: Tier
    by: OnBehalfOf
    provider: str | None = None
    model: str | None = None
    stream: bool = False
    idempotency_key: str | None = None
    images: Sequence[ImagePart] | None = None
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice | None = None
    tool_results: Sequence[ToolResult] = ()
    temperature: float | None = None
    effort: Effort | None = None
    answer_format: AnswerFormat | None = None
    answers_again: MessageId | None = None
    edits: MessageId | None = None
    speak: SpeakWish | None = None

    @property
    def user_id(self) -> UserId:
        return self.by.user_id

    @property
    def at(self) -> MessageId | None:
        """The message of before at which it begins; None is the end of the active branch."""
        return self.answers_again or self.edits

    @property
    def request_hash(self) -> bytes:
        """What makes two requests the same request; how the answer travels is no part of it."""
        images = None if self.images is None else [_described(image) for image in self.images]
        parts: dict[str, Any] = {
            "session": self.session_id,
            "content": self.content,
            "provider": self.provider,
            "model": self.model,
            "images": images,
            "tools": list(self.tools),
            "tool_choice": self.tool_choice,
            "tool_results": list(self.tool_results),
            "temperature": self.temperature,
            "effort": self.effort,
            "answer_format": self.answer_format,
            "answers_again": self.answers_again,
            "edits": self.edits,
        }
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).digest()


def _described(image: ImagePart) -> tuple[str | None, str | None, str | None]:
    digest = hashlib.sha256(image.data).hexdigest() if image.data is not None else None
    return image.media_type, digest, image.url
