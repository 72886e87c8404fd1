"""What a vendor's answer is made of once its wire is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from services.chat.domain.usage import Usage

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "paused", "other"]


@dataclass(frozen=True, slots=True)
class Began:
    """The vendor has begun: its own id of the answer and the model it really used."""

    provider_request_id: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The vendor has said all; `usage` is None when it did not tell."""

    reason: FinishReason
    usage: Usage | None


Frame: TypeAlias = Began | Text | Ended
